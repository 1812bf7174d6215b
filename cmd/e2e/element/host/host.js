// The host page: a small Matrix client that shows one room's call in a frame, as Element Web does. The tests drive it through window.host.
import * as sdk from "matrix-js-sdk";
import { ClientWidgetApi, Widget } from "matrix-widget-api";
import { VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { Grants } from "./grants.js";

const memberType = "org.matrix.msc3401.call.member";
const keyType = "io.element.call.encryption_keys";
const actions = { join: "io.element.join", close: "io.element.close", hangUp: "im.vector.hangup", mute: "io.element.device_mute" };

logger.setLevel?.("warn"); // so that the console of a failed test stays short

let client, account, call;

// faults are the errors that this page makes between the homeserver and the call: delays in ms of others' and own keys and memberships, and how many
// of the next keys are lost. log lists all keys and memberships that passed, in all calls.
const faults = { keysIn: 0, keysOut: 0, membersIn: 0, membersOut: 0, lostIn: 0, lostOut: 0 };
const log = [];

// late waits for the delay of a fault.
const late = (ms) => (ms > 0 ? new Promise((done) => setTimeout(done, ms)) : undefined);

// lose says whether the next key is lost. which is "lostIn" for keys from others and "lostOut" for own keys.
const lose = (which) => faults[which] > 0 && faults[which]-- > 0;

// until repeats ask until it returns a value, and returns that value.
async function until(what, limit, ask) {
	const end = Date.now() + limit;
	for (;;) {
		const answer = await ask();
		if (answer) return answer;
		if (Date.now() > end) throw new Error(`${what} did not happen within ${limit} ms`);
		await new Promise((done) => setTimeout(done, 10));
	}
}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const base64 = (array) => btoa(String.fromCharCode(...array));

// login logs in as a new device and cross-signs it, unless unsigned is set. It returns when the device has synced. recovery is the recovery key from
// an earlier login with the account. It opens the account's secret storage (SSSS) with the cross-signing keys.
async function login({ homeserver, user, password, recovery, unsigned }) {
	const session = await sdk.createClient({ baseUrl: homeserver }).loginRequest({
		type: "m.login.password", identifier: { type: "m.id.user", user }, password, initial_device_display_name: "Element for tests",
	});
	let key = recovery ? bytes(recovery) : undefined;
	client = sdk.createClient({
		baseUrl: homeserver, userId: session.user_id, deviceId: session.device_id, accessToken: session.access_token, timelineSupport: true,
		cryptoCallbacks: { getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], key] },
	});
	account = { homeserver, userId: session.user_id, deviceId: session.device_id };
	await client.initRustCrypto({ useIndexedDB: false });
	const crypto = client.getCrypto();
	client.on(sdk.ClientEvent.Event, feed);
	client.on(sdk.RoomStateEvent.Events, feedState);
	client.on(sdk.ClientEvent.ReceivedToDeviceMessage, ({ message, encryptionInfo }) => void feedToDevice(message, encryptionInfo !== null));
	await client.startClient({ initialSyncLimit: 20, lazyLoadMembers: false });
	await until("the first sync", 30000, () => client.isInitialSyncComplete());
	if (!unsigned) {
		const authUploadDeviceSigningKeys = (request) => request({
			type: "m.login.password", identifier: { type: "m.id.user", user: session.user_id }, password,
		});
		if (!key) {
			await crypto.bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys });
			await crypto.bootstrapSecretStorage({
				setupNewSecretStorage: true,
				createSecretStorageKey: async () => {
					const made = await crypto.createRecoveryKeyFromPassphrase();
					key = made.privateKey;
					return made;
				},
			});
		} else {
			await crypto.userHasCrossSigningKeys(account.userId, true); // downloads the public keys
			await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys });
		}
		await until("the device's cross-signing", 20000, async () => {
			const status = await crypto.getDeviceVerificationStatus(account.userId, account.deviceId);
			return status?.signedByOwner;
		});
	}
	return { user: account.userId, device: account.deviceId, recovery: key ? base64(key) : "" };
}

// feedToDevice passes a to-device message on to the call.
async function feedToDevice(message, encrypted) {
	if (!call) return;
	const { api } = call;
	if (message.type === keyType) {
		if (call.times.clicked) call.times.key ??= Date.now();
		const lost = lose("lostIn"), { keys, member } = message.content;
		if (!lost) await late(faults.keysIn);
		if (call?.api !== api) return;
		log.push({ kind: "key in", at: Date.now(), user: message.sender, device: member.claimed_device_id, index: keys.index, key: keys.key, lost });
		if (lost) return;
	}
	await api.feedToDevice(message, encrypted);
}

// feed passes a room's event on to the call, decrypted.
async function feed(event) {
	if (!call || event.getRoomId() !== call.room) return;
	await client.decryptEventIfNeeded(event);
	if (event.isDecryptionFailure()) {
		event.once(sdk.MatrixEventEvent.Decrypted, () => void feed(event));
		return;
	}
	await call?.api.feedEvent(event.getEffectiveEvent());
}

async function feedState(event) {
	if (!call || event.getRoomId() !== call.room) return;
	noteMembership(event);
	const { api } = call, user = event.getSender();
	if (event.getType() === memberType && user !== account.userId) {
		await late(faults.membersIn);
		if (call?.api !== api) return;
		log.push({ kind: "member in", at: Date.now(), user, device: event.getContent().device_id ?? "", index: 0, key: "", lost: false });
	}
	await api.feedStateUpdate(event.getEffectiveEvent());
}

// noteMembership records when memberships of the call appeared.
function noteMembership(event) {
	if (event.getType() !== memberType || !call.times.clicked) return;
	const own = event.getSender() === account.userId && event.getContent().device_id === account.deviceId;
	if (Object.keys(event.getContent()).length === 0) return;
	const [seen, sent] = own ? ["joined", "joinedSent"] : ["other", "otherSent"];
	if (call.times[seen]) return;
	call.times[seen] = Date.now();
	call.times[sent] = event.getTs();
}

// joinRoom joins a Matrix room and waits until it has synced. It tries again, because right after an invitation from another homeserver Dendrite may
// refuse the join for a moment.
async function joinRoom(room, via) {
	let refusal;
	await until("joining", 20000, async () => {
		try {
			return await client.joinRoom(room, { viaServers: via });
		} catch (e) {
			refusal = e;
			await new Promise((done) => setTimeout(done, 500));
			return undefined;
		}
	}).catch(() => { throw refusal; });
	await until("the room", 30000, () => client.getRoom(room)?.getMyMembership() === "join");
	await client.getRoom(room).loadMembersIfNeeded();
}

// loseToDevice delays and records the keys that the call sends to devices, and returns whether they are lost.
async function loseToDevice(type, content) {
	if (type !== keyType) return false;
	const lost = lose("lostOut");
	if (!lost) await late(faults.keysOut);
	for (const [user, devices] of Object.entries(content)) {
		for (const [device, { keys }] of Object.entries(devices)) {
			log.push({ kind: "key out", at: Date.now(), user, device, index: keys.index, key: keys.key, lost });
		}
	}
	return lost;
}

// sendMembership sends a membership of the call. If it is to be delayed, only the others see it late: the call at once gets the answer that it was
// sent, and soon a state update with it.
async function sendMembership(content, key, send) {
	const entry = { kind: "member out", user: account.userId, device: account.deviceId, index: 0, key: "", lost: false };
	if (!faults.membersOut || Object.keys(content).length === 0) {
		log.push({ ...entry, at: Date.now() });
		return send();
	}
	const at = Date.now(), id = `$late-${at}`;
	void late(faults.membersOut).then(() => {
		log.push({ ...entry, at: Date.now() });
		return send();
	});
	setTimeout(() => void call?.api.feedStateUpdate({
		type: memberType, state_key: key, content, sender: account.userId, event_id: id, origin_server_ts: at, room_id: call.room, unsigned: {},
	}), 200);
	return { event_id: id };
}

// load loads Element Call into a frame, as the call button in Element's room header does, and waits for its lobby.
async function load(room, intent) {
	if (call) throw new Error("there is a call already");
	const frame = document.createElement("iframe");
	const widget = new Widget({
		id: "call", creatorUserId: account.userId, type: "m.call", name: "Element Call", waitForIframeLoad: false,
		url: location.origin + "/call/",
	});
	const parameters = new URLSearchParams({
		widgetId: "call", parentUrl: location.href.split("#")[0], intent, roomId: room, userId: account.userId, deviceId: account.deviceId,
		baseUrl: account.homeserver, perParticipantE2EE: "true", confineToRoom: "true", header: "none", lang: "en", theme: "dark",
	});
	frame.allow = "camera; microphone; display-capture; autoplay; clipboard-write; fullscreen";
	frame.sandbox = "allow-forms allow-popups allow-popups-to-escape-sandbox allow-same-origin allow-scripts allow-presentation allow-downloads";
	frame.src = "/call/#?" + parameters;
	document.body.append(frame);
	const grants = new Grants(client, account, room, { loseToDevice, sendMembership });
	call = { room, frame, grants, times: { opened: Date.now() }, mute: {}, closed: "", acts: [] };
	call.api = new ClientWidgetApi(widget, frame, grants);
	call.api.setViewedRoomId(room);
	for (const [name, action] of Object.entries(actions)) {
		call.api.on("action:" + action, (request) => {
			request.preventDefault();
			call.acts.push(name);
			if (name === "mute") call.mute = request.detail.data;
			call.api.transport.reply(request.detail, {});
			if (name === "close") end("close");
		});
	}
	call.api.on("action:set_always_on_screen", (request) => {
		request.preventDefault();
		call.api.transport.reply(request.detail, { success: true });
	});
	await until("Element Call's lobby", 60000, () => button("lobby_joinCall"));
}

const button = (id) => {
	const found = call?.frame.contentDocument?.querySelector(`[data-testid="${id}"]`);
	return found && !found.disabled ? found : undefined;
};

// enter presses "join" in the lobby.
function enter() {
	call.times.clicked = Date.now();
	watch();
	button("lobby_joinCall").click();
}

// watch records when the next video frame of somebody else is decoded.
function watch() {
	const { times } = call;
	times.firstFrame = 0;
	const { probe } = call.frame.contentWindow;
	probe.firstTrack().then((at) => { times.track = at; });
	probe.firstFrame().then((at) => { times.firstFrame = at; });
}

// mute switches camera or microphone on or off, as the buttons do, and returns the new state of both.
const mute = (wanted) => call.api.transport.send(actions.mute, wanted);

// camera chooses the second camera in Element Call's settings, or the first.
async function camera(second) {
	const find = (selector, text) => until(selector, 10000, () => {
		const all = [...call.frame.contentDocument.querySelectorAll(selector)];
		return all.find((element) => element.checkVisibility() && (!text || element.textContent === text));
	});
	(await find("[data-testid^=settings-bottom]")).click();
	(await find("[role=tab]", "Video")).click();
	const last = await find(`input[type=radio][value="second"]`);
	if (second) last.click();
	else (await find(`input[type=radio][name="${last.name}"]:not([value="second"])`)).click(); // not a button of another tab
	const { contentDocument: page } = call.frame; // on a touch screen the settings have no button to close them
	page.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
	await until("the settings' end", 10000, () => !page.querySelector("[role=dialog]"));
}

// end removes the frame.
function end(why) {
	if (!call) return;
	window.host.last = { times: call.times, acts: call.acts, refused: call.grants.refused };
	call.closed = why;
	call.api.stop();
	call.frame.remove();
	call = undefined;
}

// hangUp presses the red button. It returns when Element Call has closed and its membership is removed.
async function hangUp() {
	const { room } = call;
	(await until("the button to leave", 10000, () => button("incall_leave"))).click();
	await until("Element Call's end", 20000, () => !call);
	await until("the membership's end", 20000, () => !inCall(room));
}

// inCall says whether this device is a member of a room's call, according to the room's state.
function inCall(room) {
	const key = `_${account.userId}_${account.deviceId}_m.call`;
	const event = client.getRoom(room)?.currentState.getStateEvents(memberType, key);
	return !!event && Object.keys(event.getContent()).length > 0;
}

// messages returns the decrypted events of a room's live timeline, without state events.
async function messages(room) {
	const events = client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
	await Promise.all(events.map((event) => client.decryptEventIfNeeded(event)));
	return events.filter((event) => !event.isState()).map((event) => ({
		id: event.getId(), sender: event.getSender(), type: event.getType(), ts: event.getTs(), content: event.getContent(),
		encrypted: event.isEncrypted(), failed: event.isDecryptionFailure(),
	}));
}

const state = (room, type) => (client.getRoom(room)?.currentState.getStateEvents(type) ?? []).map((event) => ({
	id: event.getId(), sender: event.getSender(), key: event.getStateKey(), ts: event.getTs(), content: event.getContent(),
}));

// comparison is the comparison of emoji with a device: the emoji once both sides show them, and how it ended.
let comparison;

// compare does what Element's "Interactively verify by emoji" does at a session of somebody else. It returns when the emoji are shown.
async function compare(user, device) {
	const crypto = client.getCrypto();
	await until("the user's devices", 20000, async () => (await crypto.getUserDeviceInfo([user], true)).get(user)?.has(device));
	const request = await crypto.requestDeviceVerification(user, device);
	await until("the window's answer", 20000, () => request.phase === VerificationPhase.Ready);
	const verifier = await request.startVerification("m.sas.v1");
	const begun = { emoji: [], ended: "" };
	comparison = begun;
	verifier.on(VerifierEvent.ShowSas, (sas) => {
		begun.sas = sas;
		begun.emoji = sas.sas.emoji.map(([symbol]) => symbol);
	});
	verifier.verify().then(() => { begun.ended = "done"; }, (e) => { begun.ended = String(e); });
	await until("the emoji", 20000, () => begun.emoji.length > 0);
	return begun.emoji;
}

// answer says whether the emoji are the same, and returns how the comparison ended.
async function answer(same) {
	const { sas } = comparison;
	if (same) await sas.confirm();
	else sas.mismatch();
	return until("the comparison's end", 30000, () => comparison.ended);
}

window.host = {
	compare, answer,
	// confirmed says whether this user has confirmed somebody's identity: then Element shows a green shield.
	confirmed: async (user) => (await client.getCrypto().getUserVerificationStatus(user)).isCrossSigningVerified(),
	login, joinRoom, load, enter, watch, mute, camera, hangUp, messages, state, inCall, last: {},
	disturb: (wanted) => { Object.assign(faults, wanted); },
	log: () => log,
	send: (room, text) => client.sendTextMessage(room, text),
	// decline does what the button "decline" of Element's call toast does (MSC4310).
	decline: (room, event) => client.sendEvent(room, "org.matrix.msc4310.rtc.decline", { "m.relates_to": { rel_type: "m.reference", event_id: event } }),
	probe: () => call?.frame.contentWindow.probe,
	calling: () => !!call,
	call: () => (call ? { times: call.times, acts: call.acts, refused: call.grants.refused, mute: call.mute } : window.host.last),
	text: () => call?.frame.contentDocument?.body?.innerText ?? "",
	button: async (id) => { (await until(`the button ${id}`, 10000, () => button(id))).click(); },
};
