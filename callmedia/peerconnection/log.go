package peerconnection

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/pion/logging"
	"github.com/rs/zerolog"
)

// logFactory makes loggers that pass on pion's warnings and errors as debug lines: most of them are normal on a bad network. pion's finer
// levels can contain whole SDPs and are dropped.
type logFactory struct{ log zerolog.Logger }

// Logger makes pion log into log.
func Logger(log zerolog.Logger) logging.LoggerFactory { return logFactory{log} }

// NewLogger makes the logger of one of pion's parts.
func (f logFactory) NewLogger(scope string) logging.LeveledLogger {
	return logger{f.log.With().Str("scope", scope).Logger()}
}

type logger struct{ log zerolog.Logger }

func (l logger) line(level, detail string) {
	l.log.Debug().Str("pion_level", level).Str("detail", Printable(detail)).Msg("WebRTC library reported")
}

func (l logger) Trace(string)                 {}
func (l logger) Tracef(string, ...any)        {}
func (l logger) Debug(string)                 {}
func (l logger) Debugf(string, ...any)        {}
func (l logger) Info(string)                  {}
func (l logger) Infof(string, ...any)         {}
func (l logger) Warn(msg string)              { l.line("warn", msg) }
func (l logger) Warnf(f string, args ...any)  { l.line("warn", fmt.Sprintf(f, args...)) }
func (l logger) Error(msg string)             { l.line("error", msg) }
func (l logger) Errorf(f string, args ...any) { l.line("error", fmt.Sprintf(f, args...)) }

// maxPrintable is the longest text, in characters, that [Printable] returns.
const maxPrintable = 200

// Printable prepares text that a peer sent for logs and errors: it is shortened, and characters that can't be printed become spaces.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxPrintable {
		s = string(r[:maxPrintable])
	}
	return s
}
