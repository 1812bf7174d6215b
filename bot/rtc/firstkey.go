//go:build !lastkeys

package rtc

// firstKey is the number of the first own key in a call. The tests' program is built with a late one, so that numbers begin anew in each visit.
const firstKey = 0
