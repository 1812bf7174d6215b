// How a picture fills its place. It may lose a quarter at its edges. A phone that is held upright, or a screen that hangs upright, would cut off more:
// then the picture is shown whole, on a soft ground of itself.
const most = 0.25; // the share of a picture that may be cut off
const slack = 0.005; // for sizes that are rounded to pixels
const groundEvery = 500; // ms

// cut is the share of a picture that is cut off when it fills its place. Both have a width and a height.
export function cut(picture, place) {
  const ratio = (picture.width / picture.height) / (place.width / place.height);
  return 1 - Math.min(ratio, 1 / ratio);
}

// fit gives a figure the class "fitted" as long as its video has to be shown whole. A ground is a canvas behind the video: a few pixels of the picture, drawn
// large, which the browser makes soft by itself. To blur a whole screen is too much work for a small PC.
export function fit(figure, video, ground = null) {
  const paint = ground?.getContext("2d", { alpha: false });
  let painted = 0;
  const look = () => {
    const known = video.videoHeight > 0 && video.clientHeight > 0;
    const fitted = known && cut({ width: video.videoWidth, height: video.videoHeight }, { width: video.clientWidth, height: video.clientHeight }) > most + slack;
    figure.classList.toggle("fitted", fitted);
  };
  video.addEventListener("resize", look);
  new ResizeObserver(look).observe(video);
  if (!paint) return;
  const frame = (now) => {
    if (figure.classList.contains("fitted") && now - painted > groundEvery) {
      painted = now;
      paint.drawImage(video, 0, 0, ground.width, ground.height);
    }
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
  video.addEventListener("emptied", () => {
    painted = 0;
    paint.clearRect(0, 0, ground.width, ground.height);
  });
}
