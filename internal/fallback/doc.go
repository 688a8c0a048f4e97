// Package fallback opens the event stream of a hub through proxies that hold streams back. It tries three ways, each
// when nothing came back by the one before: the GET of the stream, a POST of it, and long polling, which any proxy lets
// through. It remembers which one worked.
//
// A Transport does so below an http.Client, so that its user always sees a stream: what polls return is written as the
// events of one, and changes of the stream's filters are applied to the polls.
package fallback
