package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange makes a command line that cli understands in the same way as people do. cli takes options before the arguments only, and "help hub" without
// the options and commands of hub.
func arrange(commands []*cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	arranged, rest := args[:1:1], args[1:]
	if rest[0] == "help" || rest[0] == "h" {
		rest = append(slices.Clone(rest[1:]), "--help")
	}
	var flags []cli.Flag
	var options, arguments []string
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		if word == "--" {
			arguments = append(append([]string{word}, arguments...), rest...)
			break
		}
		if strings.HasPrefix(word, "-") && word != "-" {
			if options = append(options, word); takesValue(flags, word) && len(rest) > 0 {
				options, rest = append(options, rest[0]), rest[1:]
			}
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
		if len(arguments) > 0 || i < 0 {
			arguments = append(arguments, word)
			continue
		}
		arranged = append(append(arranged, options...), word)
		options, flags, commands = nil, commands[i].Flags, commands[i].Subcommands
	}
	return append(append(arranged, options...), arguments...)
}

// takesValue says whether the next word belongs to an option.
func takesValue(flags []cli.Flag, option string) bool {
	name := strings.TrimLeft(option, "-")
	for _, f := range flags {
		if f, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return f.TakesValue()
		}
	}
	return false
}
