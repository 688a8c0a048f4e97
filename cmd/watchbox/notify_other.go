//go:build !linux

package main

// reloading returns the state of a service that reads its files again.
func reloading() string { return "RELOADING=1" }
