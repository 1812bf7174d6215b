// Package paths builds networks of the test's own, in which a window is hard to open: routers with NAT and firewalls, lines that lose and
// delay, small packets, addresses that change. It takes root, iproute2 and nftables; see [Need].
//
// [NewNetwork] makes a hub and two kiosks, each in a network namespace with a router before it. [Namespace.Command] runs a program there,
// and package page is the kiosk's page there. [Side.Traffic] tells which way media took, from the router's counters and not from what the programs say.
//
// Everything ends with the test. What a killed run has left is removed by the next one, see [RemoveLeftovers].
package paths
