// Runs in every frame of the guest's page before its own scripts, and notes what Element Call receives: the tests judge by decoded frames
// and by what can be seen and heard, not by what Element Call believes.
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
	// painted is a picture that moves though there is no camera: a colour, with a white bar that wanders.
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
	// A screen to share, since a browser without one has none, and a second camera beside that of the file, which is green.
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
		// firstTrack returns when the first picture of anybody else was announced to this browser, as a time of day.
		firstTrack: async () => {
			while (live("video").length === 0) await wait(15);
			return Date.now();
		},
		// firstFrame returns when the next frame of anybody else was decoded, as a time of day.
		firstFrame: async () => {
			for (let before;;) {
				const now = (await Promise.all(live("video").map(inbound))).reduce((sum, report) => sum + (report.framesDecoded ?? 0), 0);
				if (now > before) return Date.now();
				before = now;
				await wait(15);
			}
		},
		// tiles returns what Element Call shows, once for each tile.
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
		// traffic counts what has come from everybody else: without their key only the bytes grow.
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
		// picture returns what a tile shows now, as a PNG's data URL; empty when it has no picture.
		picture: (index) => {
			const video = elements()[index]?.video;
			if (!video?.videoWidth) return "";
			const canvas = document.createElement("canvas");
			[canvas.width, canvas.height] = [320, Math.round(320 * video.videoHeight / video.videoWidth)];
			canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
			return canvas.toDataURL();
		},
		// listen returns the strongest tone within 1.2 s of each participant's sound, and its level in dB.
		listen: async () => {
			context = context || new AudioContext();
			await context.resume();
			const ears = live("audio").map(({ track, participant }) => {
				const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
				const node = context.createMediaStreamSource(new MediaStream([track]));
				node.connect(analyser);
				return { participant, analyser, node, bins: new Float32Array(analyser.frequencyBinCount), hz: 0, db: -1000 };
			});
			for (let i = 0; i < 12; i++) {
				await wait(100);
				for (const ear of ears) {
					ear.analyser.getFloatFrequencyData(ear.bins);
					ear.bins.forEach((db, bin) => {
						if (db > ear.db) [ear.hz, ear.db] = [bin * context.sampleRate / ear.analyser.fftSize, db];
					});
				}
			}
			for (const { node } of ears) node.disconnect();
			return ears.map(({ participant, hz, db }) => ({ participant, hz, db }));
		},
	};
})();
