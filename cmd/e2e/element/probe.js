// This script runs in every frame of the guest's page before the frame's own scripts. It records the media that Element Call receives. So the tests
// check decoded frames, pictures and sound, and do not rely on what Element Call reports.
(() => {
	if (window.probe || !window.RTCPeerConnection) return;
	const tracks = [], peers = []; // all that others send, as {track, receiver, participant}
	const Peer = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends Peer {
		constructor(...args) {
			super(...args);
			peers.push(this);
			this.addEventListener("track", ({ track, receiver, streams }) => {
				// LiveKit names a stream "PARTICIPANT|TRACK".
				tracks.push({ track, receiver, participant: (streams[0]?.id ?? "").split("|")[0] });
			});
		}
	};
	// painted returns a stream of a generated moving picture: a colour with a moving white bar.
	const painted = (colour) => {
		const canvas = document.createElement("canvas"), draw = canvas.getContext("2d");
		[canvas.width, canvas.height] = [640, 360];
		let at = 0;
		const paint = () => {
			draw.fillStyle = colour;
			draw.fillRect(0, 0, canvas.width, canvas.height);
			draw.fillStyle = "white";
			draw.fillRect(at = (at + 8) % canvas.width, 0, canvas.width / 8, canvas.height);
		};
		paint();
		const stream = canvas.captureStream(15), timer = setInterval(paint, 66), [track] = stream.getVideoTracks();
		const stop = track.stop.bind(track);
		track.stop = () => { clearInterval(timer); stop(); };
		return stream;
	};
	// A screen to share, because a headless browser has none, and a second camera, which shows green.
	const { mediaDevices } = navigator;
	if (mediaDevices) {
		mediaDevices.getDisplayMedia = async () => painted("rgb(225, 45, 35)");
		const second = { deviceId: "second", groupId: "second", kind: "videoinput", label: "Second camera" };
		const list = mediaDevices.enumerateDevices.bind(mediaDevices), open = mediaDevices.getUserMedia.bind(mediaDevices);
		mediaDevices.enumerateDevices = async () => [...await list(), { ...second, toJSON: () => second }];
		mediaDevices.getUserMedia = async (wanted) => {
			const device = wanted.video?.deviceId;
			if ((device?.exact ?? device?.ideal ?? device) !== second.deviceId) return open(wanted);
			const stream = painted("rgb(30, 170, 60)"), [track] = stream.getVideoTracks(), settings = track.getSettings.bind(track);
			track.getSettings = () => ({ ...settings(), deviceId: second.deviceId });
			if (wanted.audio) for (const sound of (await open({ audio: wanted.audio })).getTracks()) stream.addTrack(sound);
			return stream;
		};
	}
	const live = (kind) => tracks.filter(({ track }) => track.kind === kind && track.readyState === "live");
	const inbound = async ({ receiver }) => {
		for (const report of (await receiver.getStats()).values()) if (report.type === "inbound-rtp") return report;
		return {};
	};
	const elements = () => [...document.querySelectorAll("[data-testid=videoTile]")].map((tile) => {
		const video = tile.querySelector("video");
		const source = video?.srcObject?.getVideoTracks()[0];
		const remote = source && tracks.find(({ track }) => track.id === source.id);
		const name = tile.querySelector("[data-testid=name_tag]")?.textContent ?? "";
		return { tile, video, remote, name, own: !!source && !remote };
	});
	const wait = (ms) => new Promise((done) => setTimeout(done, ms));
	let context;
	window.probe = {
		// firstTrack waits for the first video track of somebody else, and returns the time of day in ms.
		firstTrack: async () => {
			while (live("video").length === 0) await wait(15);
			return Date.now();
		},
		// firstFrame waits for the next decoded video frame of somebody else, and returns the time of day in ms.
		firstFrame: async () => {
			for (let before;;) {
				const now = (await Promise.all(live("video").map(inbound))).reduce((sum, report) => sum + (report.framesDecoded ?? 0), 0);
				if (now > before) return Date.now();
				before = now;
				await wait(15);
			}
		},
		// tiles returns what Element Call shows in each of its tiles.
		tiles: async () => Promise.all(elements().map(async ({ tile, video, remote, name, own }, index) => {
			const report = remote ? await inbound(remote) : {};
			const { x, y, width, height } = tile.getBoundingClientRect();
			return {
				index, name, own, participant: remote?.participant ?? "", video: tile.dataset.videoEnabled === "true",
				text: tile.innerText, x, y, width, height,
				decoded: report.framesDecoded ?? 0, frameWidth: report.frameWidth ?? 0, frameHeight: report.frameHeight ?? 0,
				rate: report.framesPerSecond ?? 0, shown: video ? video.videoWidth > 0 && !video.paused : false,
			};
		})),
		// traffic counts the media from all others. Without their keys only the bytes grow.
		traffic: async () => {
			const sum = { video: 0, audio: 0, videoBytes: 0, audioBytes: 0 };
			for (const kind of ["video", "audio"]) {
				for (const report of await Promise.all(live(kind).map(inbound))) {
					sum[kind + "Bytes"] += report.bytesReceived ?? 0;
					sum[kind] += (kind === "video" ? report.framesDecoded : report.totalSamplesReceived - report.concealedSamples) || 0;
				}
			}
			return sum;
		},
		// picture returns what a tile shows now, as the data URL of a PNG. It is empty if the tile has no picture.
		picture: (index) => {
			const video = elements()[index]?.video;
			if (!video?.videoWidth) return "";
			const canvas = document.createElement("canvas");
			[canvas.width, canvas.height] = [320, Math.round(320 * video.videoHeight / video.videoWidth)];
			canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
			return canvas.toDataURL();
		},
		// listen analyses each participant's sound for 1.2 s. It returns the strongest tone and its level in dB.
		listen: async () => {
			context = context || new AudioContext();
			await context.resume();
			const analysers = live("audio").map(({ track, participant }) => {
				const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
				const node = context.createMediaStreamSource(new MediaStream([track]));
				node.connect(analyser);
				return { participant, analyser, node, bins: new Float32Array(analyser.frequencyBinCount), hz: 0, db: -1000 };
			});
			for (let i = 0; i < 12; i++) {
				await wait(100);
				for (const sound of analysers) {
					sound.analyser.getFloatFrequencyData(sound.bins);
					sound.bins.forEach((db, bin) => {
						if (db > sound.db) [sound.hz, sound.db] = [bin * context.sampleRate / sound.analyser.fftSize, db];
					});
				}
			}
			for (const { node } of analysers) node.disconnect();
			return analysers.map(({ participant, hz, db }) => ({ participant, hz, db }));
		},
	};
})();
