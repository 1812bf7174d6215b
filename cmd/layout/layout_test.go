package layout_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "multifactorymodel.org/ewindow/"

// topLevel is everything that may stand at the top of the repository, besides dotfiles.
var topLevel = []string{
	"bridge", "bot", "callmedia", "turnserver", "migrations", "cmd", "docs", "go.mod", "go.sum", "example-config.yaml",
	"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
}

// mayImport holds, for each top folder, the other top folders that its packages may import. Imports run one way.
var mayImport = map[string][]string{
	"bot":        {},
	"callmedia":  {},
	"turnserver": {},
	"migrations": {},
	"bridge":     {"bot", "callmedia", "turnserver", "migrations"},
	"cmd":        {"bridge", "bot", "callmedia", "turnserver", "migrations"},
}

// testHelpers are imported by tests of every folder.
var testHelpers = []string{"cmd/e2e", "bridge/child", "migrations"}

// testsOnly are imported by tests and by one another, never by the program.
var testsOnly = []string{"cmd/e2e", "cmd/layout"}

// leaves import nothing of ours, so that the packages of every folder may import them.
var leaves = []string{"turnserver/addrpolicy", "turnserver/limit", "bot/backoff", "bot/directory", "bot/privatefile", "bot/proof", "bot/queue", "bot/unstable"}

// Limits of what one can hold in mind, in lines.
const (
	maxLines        = 500  // of a file
	maxTestLines    = 700  // of a test's file
	maxPackageLines = 3000 // of a package, without its tests
)

// needPrograms are packages that need other programs besides Go, or root. Tests that import them belong to the full suite.
var needPrograms = []string{"cmd/e2e/acmetest", "cmd/e2e/browser", "cmd/e2e/element", "cmd/e2e/paths", "cmd/e2e/turn"}

// rules is the folder of the window's rules. mayImportRules is what they may import besides the standard library.
const rules = "bridge/window"

var mayImportRules = []string{
	"maunium.net/go/mautrix/id", module + "bot/directory", module + "bridge/notice",
	module + rules + "/redial", module + rules + "/strangers", module + rules + "/unseen",
}

// Package directory may import one more package, because the page and Matrix use times in milliseconds.
const typesOfRules, mayImportTypes = "bot/directory", "go.mau.fi/util/jsontime"

// source is one Go file.
type source struct {
	path string // from the top, with slashes
	text string
	file *ast.File
	set  *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// sources returns all Go files. They are parsed once.
func sources(t *testing.T) []source {
	t.Helper()
	list, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 20 {
		t.Fatalf("only %d Go files were found: the test looks in the wrong place", len(list))
	}
	return list
}

var parsed = sync.OnceValues(parse)

func parse() (list []source, err error) {
	top := filepath.Join("..", "..")
	err = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		if d.IsDir() && relative != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		list = append(list, source{filepath.ToSlash(relative), string(text), file, set})
		return nil
	})
	return list, err
}

// within says whether a path is one of the folders or lies in one.
func within(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(path+"/", f+"/") })
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) && e.Name() != "ewindow" && e.Name() != "data" {
			t.Errorf("%s does not belong at the top of the repository", e.Name())
		}
	}
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		own, _, _ := strings.Cut(s.path, "/")
		for _, spec := range s.file.Imports {
			target, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours {
				continue
			}
			folder, _, _ := strings.Cut(target, "/")
			switch {
			case within(target, testsOnly) && !s.isTest() && !within(s.path, testsOnly):
				t.Errorf("%s imports %s, which is for tests only", s.path, target)
			case within(s.path, leaves) && !s.isTest():
				t.Errorf("%s imports %s: a leaf imports nothing of ours", s.path, target)
			case slices.Contains(leaves, target):
			case folder == own, slices.Contains(mayImport[own], folder):
			case s.isTest() && within(target, testHelpers):
			default:
				t.Errorf("%s imports %s: imports run cmd → bridge → bot, callmedia, turnserver, migrations", s.path, target)
			}
			if strings.HasPrefix(target, "bot/rtc") && strings.HasPrefix(s.path, "bot/") && !strings.HasPrefix(s.path, "bot/rtc/") && !s.isTest() {
				t.Errorf("%s imports %s: bot/rtc stands on bot", s.path, target)
			}
		}
	}
}

// TestLeaves checks that each leaf exists. Otherwise nobody would check the imports of a leaf that was renamed.
func TestLeaves(t *testing.T) {
	all := sources(t)
	for _, leaf := range leaves {
		if !slices.ContainsFunc(all, func(s source) bool { return path.Dir(s.path) == leaf && !s.isTest() }) {
			t.Errorf("there is no package %s", leaf)
		}
	}
}

// TestComments checks that every package has a package comment, and everything exported a doc comment.
func TestComments(t *testing.T) {
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		folder := path.Dir(s.path)
		if s.isTest() {
			continue
		}
		documented[folder] = documented[folder] || s.file.Doc != nil
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) && d.Doc == nil {
					t.Errorf("%s: %s has no doc comment", s.set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					checkSpec(t, s, d, spec)
				}
			}
		}
	}
	for folder, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	kind := d.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	name, ok := kind.(*ast.Ident)
	return ok && name.IsExported()
}

func checkSpec(t *testing.T, s source, d *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
			t.Errorf("%s: %s has no doc comment", s.set.Position(spec.Pos()), spec.Name.Name)
		}
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
				t.Errorf("%s: %s has no doc comment", s.set.Position(spec.Pos()), name.Name)
			}
		}
	}
}

// TestRules keeps input and output out of the window's rules.
func TestRules(t *testing.T) {
	found := false
	for _, s := range sources(t) {
		folder := path.Dir(s.path)
		if !within(folder, []string{rules, typesOfRules}) || s.isTest() {
			continue
		}
		found = found || folder == rules
		for _, spec := range s.file.Imports {
			target := strings.Trim(spec.Path.Value, `"`)
			standard := !strings.Contains(strings.Split(target, "/")[0], ".")
			doesIO := slices.ContainsFunc([]string{"os", "net", "io", "log", "syscall", "database"}, func(p string) bool {
				return target == p || strings.HasPrefix(target, p+"/")
			})
			if folder == typesOfRules && target == mayImportTypes {
				continue
			}
			if (!standard || doesIO) && !slices.Contains(mayImportRules, target) {
				t.Errorf("%s imports %s: the window's rules are pure", s.path, target)
			}
		}
	}
	if !found {
		t.Errorf("there is no package %s", rules)
	}
}

func TestFiles(t *testing.T) {
	packages := make(map[string]int)
	for _, s := range sources(t) {
		lines, limit := strings.Count(s.text, "\n"), maxTestLines
		if !s.isTest() {
			packages[path.Dir(s.path)] += lines
			limit = maxLines
		}
		if lines > limit {
			t.Errorf("%s has %d lines: cut it where its subject changes", s.path, lines)
		}
		if !s.isTest() || strings.HasPrefix(s.path, "cmd/layout/") {
			continue
		}
		if strings.Contains(s.text, "time.Sleep(") {
			t.Errorf("%s sleeps: wait for what should happen, or use testing/synctest", s.path)
		}
		if strings.Contains(s.text, `t.Skip("`) {
			t.Errorf("%s has a test that is never run, or does not say why it is skipped", s.path)
		}
		for _, spec := range s.file.Imports {
			target, _ := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if within(target, needPrograms) && !strings.HasPrefix(s.text, "//go:build full\n") {
				t.Errorf("%s imports %s and lacks the line //go:build full", s.path, target)
			}
		}
	}
	for folder, lines := range packages {
		if lines > maxPackageLines {
			t.Errorf("%s has %d lines: cut it where its subject changes", folder, lines)
		}
	}
}

// TestPageFiles limits the length of the page's own files, too.
func TestPageFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "bridge", "kiosk", "web", "*"))
	if err != nil || len(files) < 5 {
		t.Fatalf("the page has %d files: the test looks in the wrong place; %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		if n := strings.Count(string(text), "\n"); n > maxLines {
			t.Errorf("%s has %d lines: cut it where its subject changes", filepath.Base(name), n)
		}
	}
}

// TestLogs checks that log messages are constant, so that logs can be searched. What varies belongs into fields.
func TestLogs(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || within(s.path, testsOnly) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Msgf" {
					t.Errorf("%s: Msgf: put what varies into fields", s.set.Position(call.Pos()))
				}
			}
			return true
		})
	}
}
