// Package listen opens the sockets of a server and serves on them: TCP or a Unix socket, plain or with TLS,
// with certificates from files or from an ACME server (RFC 8555). It does not depend on hubs.
package listen
