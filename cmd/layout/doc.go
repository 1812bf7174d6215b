// Package layout holds no code: its test keeps the rules of the repository's structure, which are written down there.
package layout
