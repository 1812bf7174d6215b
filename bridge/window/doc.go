// Package window is the rules of one window, without any input or output: facts in, a plan out.
package window
