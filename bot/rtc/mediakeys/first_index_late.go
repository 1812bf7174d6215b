//go:build lastkeys

package mediakeys

// firstIndex is 254: the index wraps to 0 with the third key of a call.
const firstIndex = 254
