// Package layout has only a test. It checks the rules for the repository's structure, for example which folder may import which.
package layout
