package turn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/ewindow/e2e/turn"
)

// relayed connects a page with itself by two peer connections that may use nothing but a TURN server, and sends messages from one to the other
// and back.
const relayed = `(async (server) => {
	const make = () => new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" });
	const a = make(), b = make();
	const errors = [];
	for (const [from, to] of [[a, b], [b, a]]) {
		from.onicecandidate = (e) => { if (e.candidate) to.addIceCandidate(e.candidate).catch((err) => errors.push(String(err))); };
		from.onicecandidateerror = (e) => errors.push(e.errorCode + " " + e.errorText);
	}
	const begun = performance.now();
	const channel = a.createDataChannel("test", { ordered: false, maxRetransmits: 0 });
	b.ondatachannel = (e) => { e.channel.onmessage = (m) => e.channel.send(m.data); };
	const open = new Promise((done) => { channel.onopen = done; });
	const late = new Promise((_, fail) => setTimeout(() => fail(new Error("no connection: " + errors.join("; "))), 20000));
	await a.setLocalDescription(await a.createOffer());
	await b.setRemoteDescription(a.localDescription);
	await b.setLocalDescription(await b.createAnswer());
	await a.setRemoteDescription(b.localDescription);
	await Promise.race([open, late]);
	const took = performance.now() - begun;
	let back = 0;
	const all = new Promise((done) => { channel.onmessage = () => { if (++back === 100) done(); }; });
	for (let i = 0; i < 100; i++) channel.send("x".repeat(1000));
	await Promise.race([all, new Promise((done) => setTimeout(done, 5000))]);
	// Data may flow, and all be back, before the pair of candidates that it takes is nominated.
	let local;
	for (const end = performance.now() + 5000; !local && performance.now() < end; await new Promise((done) => setTimeout(done, 100))) {
		const stats = [...(await a.getStats()).values()];
		const pair = stats.find((s) => s.type === "candidate-pair" && s.nominated && s.state === "succeeded");
		local = stats.find((s) => s.id === pair?.localCandidateId);
	}
	a.close();
	b.close();
	return { took, back, type: local?.candidateType ?? "", protocol: local?.relayProtocol ?? "", errors };
})`

// TestChromium lets Chromium send through our server alone, by each of its transports.
func TestChromium(t *testing.T) {
	browser.Need(t)
	s := turn.StartOurs(t)
	page := browser.Start(t, "about:blank", browser.Options{Flags: []string{"--ignore-certificate-errors"}})
	for _, url := range []string{
		fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", s.Port), fmt.Sprintf("turn:127.0.0.1:%d?transport=tcp", s.Port),
		fmt.Sprintf("turns:127.0.0.1:%d?transport=tcp", s.TLSPort),
	} {
		username, password := s.Credentials("anna")
		server, err := json.Marshal(map[string]string{"urls": url, "username": username, "credential": password})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Took           float64
			Back           int
			Type, Protocol string
			Errors         []string
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err = page.Eval(ctx, fmt.Sprintf("%s(%s)", relayed, server), &got)
		cancel()
		if err != nil || got.Back != 100 || got.Type != "relay" {
			t.Errorf("%s: %+v, %v", url, got, err)
			continue
		}
		t.Logf("%s: connected by %s after %.0f ms", url, got.Protocol, got.Took)
	}
}
