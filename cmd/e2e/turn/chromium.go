package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// relayed is a script that connects two peer connections of one page. They may use only relay candidates of a TURN server. It sends messages from
// one to the other and back.
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
	// All data may be back before the candidate pair is nominated.
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

// Chromium lets a page send a hundred messages through a TURN server and back. It fails the test if one is lost. url is as in RTCIceServer.
func Chromium(t testing.TB, page *browser.Page, url, username, password string) {
	t.Helper()
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
	defer cancel()
	if err := page.Eval(ctx, fmt.Sprintf("%s(%s)", relayed, server), &got); err != nil || got.Back != 100 || got.Type != "relay" {
		t.Errorf("%s: %+v, %v", url, got, err)
		return
	}
	t.Logf("%s: connected by %s after %.0f ms", url, got.Protocol, got.Took)
}
