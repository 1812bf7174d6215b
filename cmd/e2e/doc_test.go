// Package e2e_test runs the whole of e-window, as people do: the built program brings up its demonstration (two Dendrites, LiveKit, TURN,
// two kiosks), two Chromium pages with fake cameras and microphones stand before the windows, and the tests look at what the pages show
// and play. Nothing in between is replaced.
//
// Without Chromium the tests are skipped with a line that says how to get it; with EWINDOW_E2E=require they fail instead.
// EWINDOW_SHOTS names a folder for screenshots.
package e2e_test
