package config

// NeedsAccount says whether the hub must know who belongs to the network: it gives access to a focus, or to a relay through its homeserver.
func (h *HubConfig) NeedsAccount() bool {
	return !h.Focus.Open && (h.Focus.Enabled || h.Homeserver.Enabled && h.TurnServer.Enabled)
}
