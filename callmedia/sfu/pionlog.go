package sfu

import (
	"fmt"

	"github.com/pion/logging"
	"github.com/rs/zerolog"
)

// pionLog passes on what pion warns of, as debug lines: most of it is normal on a bad network. Its finer levels can contain
// whole SDPs and are dropped.
type pionLog struct{ log zerolog.Logger }

// PionLogger makes pion's parts log into log; for all users of pion in the program.
func PionLogger(log zerolog.Logger) logging.LoggerFactory { return pionLog{log} }

// NewLogger makes the logger of one of pion's parts.
func (l pionLog) NewLogger(scope string) logging.LeveledLogger {
	return pionLogger{l.log.With().Str("scope", scope).Logger()}
}

type pionLogger struct{ log zerolog.Logger }

func (l pionLogger) line(level, detail string) {
	l.log.Debug().Str("pion_level", level).Str("detail", printable(detail)).Msg("WebRTC library reported")
}

func (l pionLogger) Trace(string)                 {}
func (l pionLogger) Tracef(string, ...any)        {}
func (l pionLogger) Debug(string)                 {}
func (l pionLogger) Debugf(string, ...any)        {}
func (l pionLogger) Info(string)                  {}
func (l pionLogger) Infof(string, ...any)         {}
func (l pionLogger) Warn(msg string)              { l.line("warn", msg) }
func (l pionLogger) Warnf(f string, args ...any)  { l.line("warn", fmt.Sprintf(f, args...)) }
func (l pionLogger) Error(msg string)             { l.line("error", msg) }
func (l pionLogger) Errorf(f string, args ...any) { l.line("error", fmt.Sprintf(f, args...)) }
