package client

// Meta adds a name and a value to the message, which receivers get in Message.Meta. It may be used several times, also
// with one name. A message has at most 16 pairs, of 1 KiB together. A name has letters, digits, -, _ and . only. Receivers
// get names in lower case, sorted, and the values of one name in the order of the options. Draft.Meta and
// SetWill keep names and order as they are, and have no such limits for names.
func Meta(name, value string) PublishOption {
	return func(r *request) { r.meta = append(r.meta, [2]string{name, value}) }
}
