// Package paths builds difficult networks for tests: routers with NAT and firewalls, links with packet loss and delay, a small MTU, addresses that
// change. It needs root, iproute2 and nftables, see [Need].
//
// [NewNetwork] makes a hub and two kiosks. Each is in a network namespace; each kiosk is behind a router. [Namespace.Command] runs a program in a
// namespace, for example the kiosk's page of package page. [Side.Traffic] tells which route media took. It reads the router's counters and does not
// rely on what the programs report.
//
// Everything is removed when the test ends. If a test process was killed, the next run removes what it left, see [RemoveLeftovers].
package paths
