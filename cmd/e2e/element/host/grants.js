// The widget capabilities that the host page grants Element Call: exactly those that Element Web grants its built-in call widget.
import * as sdk from "matrix-js-sdk";
import { EventDirection, MatrixCapabilities, OpenIDRequestState, WidgetDriver, WidgetEventCapability } from "matrix-widget-api";

const callMember = "org.matrix.msc3401.call.member";
const both = [EventDirection.Send, EventDirection.Receive];

function granted({ userId, deviceId }, room) {
	const list = [
		MatrixCapabilities.AlwaysOnScreen, MatrixCapabilities.MSC3846TurnServers, MatrixCapabilities.MSC4157SendDelayedEvent,
		MatrixCapabilities.MSC4157UpdateDelayedEvent, MatrixCapabilities.MSC4407SendStickyEvent, MatrixCapabilities.MSC4407ReceiveStickyEvent,
		MatrixCapabilities.MSC4039DownloadFile, MatrixCapabilities.MSC4515RtcTransports, `org.matrix.msc2762.timeline:${room}`,
	];
	const add = (capability) => list.push(capability.raw);
	for (const type of ["m.room.create", "m.room.name", "m.room.member", "m.room.encryption", callMember, "org.matrix.msc3401.call"]) {
		add(WidgetEventCapability.forStateEvent(EventDirection.Receive, type));
	}
	for (const key of [userId, `_${userId}_${deviceId}`, `_${userId}_${deviceId}_m.call`, `${userId}_${deviceId}`, `${userId}_${deviceId}_m.call`]) {
		add(WidgetEventCapability.forStateEvent(EventDirection.Send, callMember, key));
	}
	for (const type of [
		"org.matrix.rageshake_request", "io.element.call.encryption_keys", "io.element.call.reaction", "m.reaction", "m.room.redaction",
		"org.matrix.msc4310.rtc.decline", "org.matrix.msc4143.rtc.member", "org.matrix.msc4075.call.notify", "org.matrix.msc4075.rtc.notification",
	]) {
		for (const direction of both) add(WidgetEventCapability.forRoomEvent(direction, type));
	}
	for (const type of [
		"m.call.invite", "m.call.candidates", "m.call.answer", "m.call.hangup", "m.call.reject", "m.call.select_answer", "m.call.negotiate",
		"m.call.sdp_stream_metadata_changed", "org.matrix.call.sdp_stream_metadata_changed", "m.call.replaces", "io.element.call.encryption_keys",
	]) {
		for (const direction of both) add(WidgetEventCapability.forToDeviceEvent(direction, type));
	}
	return new Set(list);
}

// Grants answers Element Call's widget requests with a Matrix client. sendMembership sends a membership of the call. loseToDevice sees each
// to-device message before it is sent, and returns whether it is lost.
export class Grants extends WidgetDriver {
	constructor(client, account, room, { loseToDevice, sendMembership }) {
		super();
		Object.assign(this, { client, room, loseToDevice, sendMembership, allowed: granted(account, room), refused: [] });
	}

	async validateCapabilities(requested) {
		this.refused.push(...[...requested].filter((capability) => !this.allowed.has(capability)));
		return new Set([...requested].filter((capability) => this.allowed.has(capability)));
	}

	askOpenID(observer) {
		this.client.getOpenIdToken().then(
			(token) => observer.update({ state: OpenIDRequestState.Allowed, token }),
			() => observer.update({ state: OpenIDRequestState.Blocked }),
		);
	}

	async sendEvent(type, content, stateKey = null, room = null) {
		const roomId = room || this.room;
		let sent;
		if (type === callMember && stateKey !== null) {
			sent = await this.sendMembership(content, stateKey, () => this.client.sendStateEvent(roomId, type, content, stateKey));
		} else if (stateKey !== null) sent = await this.client.sendStateEvent(roomId, type, content, stateKey);
		else if (type === "m.room.redaction") sent = await this.client.redactEvent(roomId, content.redacts);
		else sent = await this.client.sendEvent(roomId, type, content);
		return { roomId, eventId: sent.event_id };
	}

	async sendDelayedEvent(delay, type, content, stateKey = null, room = null) {
		const roomId = room || this.room;
		const sent = stateKey !== null
			? await this.client._unstable_sendDelayedStateEvent(roomId, { delay }, type, content, stateKey)
			: await this.client._unstable_sendDelayedEvent(roomId, { delay }, null, type, content);
		return { roomId, delayId: sent.delay_id };
	}

	async cancelScheduledDelayedEvent(id) { await this.client._unstable_cancelScheduledDelayedEvent(id); }
	async restartScheduledDelayedEvent(id) { await this.client._unstable_restartScheduledDelayedEvent(id); }
	async sendScheduledDelayedEvent(id) { await this.client._unstable_sendScheduledDelayedEvent(id); }

	async sendToDevice(type, encrypted, content) {
		if (await this.loseToDevice(type, content)) return;
		if (!encrypted) {
			const map = new Map(Object.entries(content).map(([user, devices]) => [user, new Map(Object.entries(devices))]));
			await this.client.queueToDevice({
				eventType: type,
				batch: [...map].flatMap(([userId, devices]) => [...devices].map(([deviceId, payload]) => ({ userId, deviceId, payload }))),
			});
			return;
		}
		// All devices that get the same content are in one batch.
		const groups = new Map();
		for (const [userId, devices] of Object.entries(content)) {
			for (const [deviceId, payload] of Object.entries(devices)) {
				const same = JSON.stringify(payload);
				groups.set(same, [...(groups.get(same) ?? []), { userId, deviceId }]);
			}
		}
		const crypto = this.client.getCrypto();
		await Promise.all([...groups].map(async ([same, recipients]) => {
			const batch = await crypto.encryptToDeviceMessages(type, recipients, JSON.parse(same));
			await this.client.queueToDevice(batch);
		}));
	}

	known(room) { return this.client.getRoom(room) ?? undefined; }

	async readRoomTimeline(room, type, msgtype, stateKey, limit, since) {
		const found = [];
		for (const event of [...(this.known(room)?.getLiveTimeline().getEvents() ?? [])].reverse()) {
			if (since !== undefined && event.getId() === since) break;
			if (found.length >= (limit || Infinity)) break;
			if (event.getType() !== type || event.isState() !== (stateKey !== undefined)) continue;
			if (type === "m.room.message" && msgtype && event.getContent().msgtype !== msgtype) continue;
			if (stateKey !== undefined && event.getStateKey() !== stateKey) continue;
			found.push(event.getEffectiveEvent());
		}
		return found;
	}

	async readRoomState(room, type, stateKey) {
		const state = this.known(room)?.currentState;
		if (!state) return [];
		if (stateKey !== undefined) return [state.getStateEvents(type, stateKey)].filter(Boolean).map((event) => event.getEffectiveEvent());
		return state.getStateEvents(type).map((event) => event.getEffectiveEvent());
	}

	async readStickyEvents() { return []; }

	async readEventRelations(eventId, room, relation, type, from, to, limit, direction) {
		const dir = direction === "f" ? sdk.Direction.Forward : sdk.Direction.Backward;
		const { events, nextBatch, prevBatch } = await this.client.relations(
			room ?? this.room, eventId, relation ?? null, type ?? null, { from, to, limit, dir });
		return { chunk: events.map((event) => event.getEffectiveEvent()), nextBatch: nextBatch ?? undefined, prevBatch: prevBatch ?? undefined };
	}

	async getRtcTransports() { return { rtc_transports: await this.client._unstable_getRTCTransports() }; }

	getKnownRooms() { return this.client.getVisibleRooms().map((room) => room.roomId); }

	processError(error) {
		return error instanceof sdk.MatrixError ? { matrix_api_error: error.asWidgetApiErrorData() } : undefined;
	}
}
