// Package bench measures a hub beside references, in one run and as ratios: absolute
// numbers say more about the machine than about the program. Run it with make bench.
//
// Servers run in processes of their own (this test binary, started again), so that the
// load and the server do not share a runtime.
package bench
