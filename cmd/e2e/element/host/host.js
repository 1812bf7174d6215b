// The host page: a small Matrix client with one room's call in a frame, as Element Web shows it. The tests drive it by window.host.
import * as sdk from "matrix-js-sdk";
import { ClientWidgetApi, Widget } from "matrix-widget-api";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { Grants } from "./grants.js";

const memberType = "org.matrix.msc3401.call.member";
const keyType = "io.element.call.encryption_keys";
const actions = { join: "io.element.join", close: "io.element.close", hangUp: "im.vector.hangup", mute: "io.element.device_mute" };

logger.setLevel?.("warn"); // so that a failure's trace shows what matters

let client, account, call;

// faults are what goes wrong on the way between the homeserver and the call: how late, in ms, others' keys and memberships come to the call
// and its own leave, and how many of the next keys are lost. log is what came and went, whatever call it was for.
const faults = { keysIn: 0, keysOut: 0, membersIn: 0, membersOut: 0, lostIn: 0, lostOut: 0 };
const log = [];

// late waits for as long as a fault says.
const late = (ms) => (ms > 0 ? new Promise((done) => setTimeout(done, ms)) : undefined);

// lose says whether the next key is lost, of those that come or of those that are sent.
const lose = (which) => faults[which] > 0 && faults[which]-- > 0;

// until asks again and again until there is an answer.
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

// login makes a new device, cross-signed unless that is refused, and returns when it has synced. recovery is the key of an earlier device
// of the same account, which holds the account's identity in the server's secret storage.
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
			await crypto.userHasCrossSigningKeys(account.userId, true); // brings the public part
			await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys });
		}
		await until("the device's cross-signing", 20000, async () => {
			const status = await crypto.getDeviceVerificationStatus(account.userId, account.deviceId);
			return status?.signedByOwner;
		});
	}
	return { user: account.userId, device: account.deviceId, recovery: key ? base64(key) : "" };
}

// feedToDevice passes what was sent to this device on to the call.
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
	note(event);
	const { api } = call, user = event.getSender();
	if (event.getType() === memberType && user !== account.userId) {
		await late(faults.membersIn);
		if (call?.api !== api) return;
		log.push({ kind: "member in", at: Date.now(), user, device: event.getContent().device_id ?? "", index: 0, key: "", lost: false });
	}
	await api.feedStateUpdate(event.getEffectiveEvent());
}

// note keeps when memberships of the call were seen.
function note(event) {
	if (event.getType() !== memberType || !call.times.clicked) return;
	const own = event.getSender() === account.userId && event.getContent().device_id === account.deviceId;
	if (Object.keys(event.getContent()).length === 0) return;
	const [seen, sent] = own ? ["joined", "joinedSent"] : ["other", "otherSent"];
	if (call.times[seen]) return;
	call.times[seen] = Date.now();
	call.times[sent] = event.getTs();
}

// joinRoom enters a Matrix room and waits until it is known whole. It tries again, as people do: Dendrite refuses for a moment who was invited
// just now from another homeserver.
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

// sending stands between the call and what it sends, and returns whether that is lost.
async function sending(type, content) {
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

// announcing sends a membership of the call. A late one stands on the way to the others: the call is told at once that it has been sent, and
// sees it in the room.
async function announcing(content, key, send) {
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

// load puts Element Call into the frame, as the call button of Element's room header does, and waits for its lobby.
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
	const grants = new Grants(client, account, room, { sending, announcing });
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

// watch notes when the next frame of anybody else is decoded.
function watch() {
	const { times } = call;
	times.firstFrame = 0;
	const { probe } = call.frame.contentWindow;
	probe.firstTrack().then((at) => { times.track = at; });
	probe.firstFrame().then((at) => { times.firstFrame = at; });
}

// mute switches camera or microphone, as the buttons do, and returns what is on then.
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
	else (await find(`input[type=radio][name="${last.name}"]:not([value="second"])`)).click(); // not one of another tab's
	const { contentDocument: page } = call.frame; // a touch screen has no button to close it
	page.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
	await until("the settings' end", 10000, () => !page.querySelector("[role=dialog]"));
}

// end takes the frame away.
function end(why) {
	if (!call) return;
	window.host.last = { times: call.times, acts: call.acts, refused: call.grants.refused };
	call.closed = why;
	call.api.stop();
	call.frame.remove();
	call = undefined;
}

// hangUp presses the red button, and returns when Element Call has said goodbye and its membership is gone.
async function hangUp() {
	const { room } = call;
	(await until("the button to leave", 10000, () => button("incall_leave"))).click();
	await until("Element Call's end", 20000, () => !call);
	await until("the membership's end", 20000, () => !inCall(room));
}

// inCall says whether this device is in a room's call, by the room's state.
function inCall(room) {
	const key = `_${account.userId}_${account.deviceId}_m.call`;
	const event = client.getRoom(room)?.currentState.getStateEvents(memberType, key);
	return !!event && Object.keys(event.getContent()).length > 0;
}

// messages are the events of a room as the person reads them: those of its live timeline.
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

window.host = {
	login, joinRoom, load, enter, watch, mute, camera, hangUp, messages, state, inCall, last: {},
	disturb: (wanted) => { Object.assign(faults, wanted); },
	log: () => log,
	send: (room, text) => client.sendTextMessage(room, text),
	// decline is the button of the toast with which Element rings.
	decline: (room, event) => client.sendEvent(room, "org.matrix.msc4310.rtc.decline", { "m.relates_to": { rel_type: "m.reference", event_id: event } }),
	probe: () => call?.frame.contentWindow.probe,
	calling: () => !!call,
	call: () => (call ? { times: call.times, acts: call.acts, refused: call.grants.refused, mute: call.mute } : window.host.last),
	text: () => call?.frame.contentDocument?.body?.innerText ?? "",
	button: async (id) => { (await until(`the button ${id}`, 10000, () => button(id))).click(); },
};
