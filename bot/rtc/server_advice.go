package rtc

// advice is something that the homeserver's admin could change for the calls. Each is logged once.
type advice uint8

const (
	adviceDelayedEvents advice = iota
	adviceTransport
	adviceRateLimit
	advices
)

var adviceTexts = [advices]string{
	adviceDelayedEvents: "The homeserver sends no delayed events, so that this window, if it loses its connection, stays in the call for up to ten minutes. " +
		"On Synapse set max_event_delay_duration; \"ewindow hub snippet synapse\" prints how",
	adviceTransport: "The homeserver itself does not say where its focus is; other clients may not find it. " +
		"On Synapse set matrix_rtc.transports; \"ewindow hub snippet synapse\" prints how",
	adviceRateLimit: "The homeserver makes this window wait: its limit of requests is too low for calls. " +
		"On Synapse raise rc_message and rc_delayed_event_mgmt; \"ewindow hub snippet synapse\" prints how",
}

// advise logs a piece of advice the first time. It may be called from any goroutine.
func (m *Manager) advise(a advice) {
	m.advised[a].Do(func() { m.cfg.Log.Warn().Msg(adviceTexts[a]) })
}
