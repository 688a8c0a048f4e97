// Package mqtt serves MQTT 3.1.1 and 5.0 clients on a hub: the same groups, the same log, the same sessions.
//
// It has two sides, which meet in conn and session:
//
//   - The connection side (server.go, conn.go, turn.go, connect.go, publish.go, write.go) owns the socket, what arrives, and the
//     bytes that wait to be written. It answers CONNECT, PUBLISH, PUBREL, PINGREQ and DISCONNECT, and knows the ids of
//     QoS 2 messages that were received but not released.
//   - The session side (session.go, subscribe.go, ending.go, deliver.go, window.go, share.go) owns the subscriptions, the position
//     in the log, and the window of messages that were sent but not acknowledged. It answers SUBSCRIBE, UNSUBSCRIBE,
//     PUBACK, PUBREC and PUBCOMP, and renders messages as PUBLISH packets.
//
// The connection calls its session: open when a client has been admitted, start when the CONNACK is queued, packet for
// each packet that is the session's to answer, and close when the connection has ended. These calls are made by one
// goroutine at a time. The session calls conn.send with whole packets, at any time, and reads the fields of conn that
// are set before open. Its delivery stream writes to the conn, which is an sse.Conn.
//
// Names and values of the client's are translated in both directions in topic.go, payload.go and meta.go.
package mqtt
