// Package e2e_test runs the whole of e-window as people do. The built program brings up its demonstration: two Dendrites, LiveKit, TURN and
// two kiosks. The tests look at what the windows' pages show and play. Nothing in between is replaced.
//
// [TestTwoWindows] takes nothing but Go. All other tests belong to the full suite (build tag full): they open the pages in Chromium, with
// fake cameras and microphones, and bring the real Element Call. Without Chromium, or npm, they are skipped with a line that says how to get
// it; with EWINDOW_E2E=require they fail instead. EWINDOW_SHOTS names a folder for screenshots and logs.
package e2e_test
