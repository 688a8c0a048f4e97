// Package cluster tests hubs that share a log on NATS JetStream. Its tests run nats-server processes (package servers) of
// the version in go.mod, and watchbox serve processes. They are not run on Windows, which cannot pause a process.
package cluster
