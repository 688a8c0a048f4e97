// Package sharedtest is a log in memory that several hubs of one process share, for tests. It can kill,
// pause and cut off each hub, and delay and break what they append.
package sharedtest
