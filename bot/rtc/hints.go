package rtc

// hint is something that the homeserver's admin could do for the calls. Each is logged once.
type hint uint8

const (
	hintDelayed hint = iota
	hintTransport
	hintRate
	hints
)

var hintTexts = [hints]string{
	hintDelayed: "The homeserver sends no delayed events, so that this window, if it loses its connection, stays in the call for up to ten minutes. " +
		"On Synapse set max_event_delay_duration; \"ewindow hub snippet synapse\" prints how",
	hintTransport: "The homeserver itself does not say where its focus is; other clients may not find it. " +
		"On Synapse set matrix_rtc.transports; \"ewindow hub snippet synapse\" prints how",
	hintRate: "The homeserver makes this window wait: its limit of requests is too low for calls. " +
		"On Synapse raise rc_message and rc_delayed_event_mgmt; \"ewindow hub snippet synapse\" prints how",
}

// hint gives a hint the first time that it is due. It may be called from any goroutine.
func (m *Manager) hint(h hint) {
	m.hinted[h].Do(func() { m.cfg.Log.Warn().Msg(hintTexts[h]) })
}
