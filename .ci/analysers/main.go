// Command analysers holds checks of Go code that go vet does not run by itself. Run it by go vet -vettool.
package main

import (
	"golang.org/x/tools/go/analysis/passes/atomicalign"
	"golang.org/x/tools/go/analysis/passes/deepequalerrors"
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/passes/reflectvaluecompare"
	"golang.org/x/tools/go/analysis/passes/sortslice"
	"golang.org/x/tools/go/analysis/passes/unusedwrite"
	"golang.org/x/tools/go/analysis/passes/waitgroup"
	"golang.org/x/tools/go/analysis/unitchecker"
)

func main() {
	unitchecker.Main(atomicalign.Analyzer, deepequalerrors.Analyzer, nilness.Analyzer, reflectvaluecompare.Analyzer, sortslice.Analyzer,
		unusedwrite.Analyzer, waitgroup.Analyzer)
}
