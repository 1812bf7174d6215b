//go:build !lastkeys

package mediakeys

// firstIndex is the index of the first own key in a call. End-to-end tests build the program with the tag lastkeys, so that the index
// wraps to 0 in every visit.
const firstIndex = 0
