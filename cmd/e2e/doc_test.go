// Package e2e_test runs the whole of e-window. The tests build the program and start its demonstration: two Dendrite homeservers, LiveKit,
// TURN and two kiosks. They check what the windows' pages show and play. No part is replaced by a fake.
//
// [TestTwoWindows] needs nothing but Go. All other tests belong to the full suite (build tag full). They open the pages in Chromium with
// fake cameras and microphones, and they run the real Element Call. Without Chromium or npm they are skipped, with a line that says how to
// install it. With EWINDOW_E2E=require they fail instead. EWINDOW_SHOTS names a folder for screenshots and logs.
//
// Tests with browsers run one after the other, since they use both cores. Those with package page in place of browsers mostly wait. They run at the
// same time, after the others.
package e2e_test
