//go:build lastkeys

package rtc

const firstKey = 254
