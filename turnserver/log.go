package turnserver

import (
	"fmt"

	"github.com/pion/logging"
	"github.com/rs/zerolog"
)

// loggers makes pion log through zerolog. Everything goes to debug: what pion calls an error is what some client did wrong, and
// what matters is counted.
type loggers struct{ log zerolog.Logger }

// NewLogger implements pion's factory.
func (l loggers) NewLogger(scope string) logging.LeveledLogger {
	return logger{l.log.With().Str("scope", scope).Logger()}
}

type logger struct{ log zerolog.Logger }

func (l logger) say(detail string) { l.log.Debug().Str("detail", detail).Msg("TURN library reports") }

func (l logger) sayf(format string, args []any) {
	if l.log.Debug().Enabled() {
		l.say(fmt.Sprintf(format, args...))
	}
}

// Trace and debug come for each packet and are dropped.
func (l logger) Trace(string)          {}
func (l logger) Tracef(string, ...any) {}
func (l logger) Debug(string)          {}
func (l logger) Debugf(string, ...any) {}

func (l logger) Info(m string)                  { l.say(m) }
func (l logger) Infof(format string, a ...any)  { l.sayf(format, a) }
func (l logger) Warn(m string)                  { l.say(m) }
func (l logger) Warnf(format string, a ...any)  { l.sayf(format, a) }
func (l logger) Error(m string)                 { l.say(m) }
func (l logger) Errorf(format string, a ...any) { l.sayf(format, a) }
