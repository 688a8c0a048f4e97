// Package hub is log, delivery and sessions as one thing: what can be asked of Watchbox, without
// HTTP. What the API serves and what a program that embeds it calls meets here.
package hub
