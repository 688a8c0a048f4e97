package client

// Waiting returns the number of messages that wait to be sent with others.
func (c *Client) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.posts)
}

// RenewIn returns the wait before a token is renewed that expires after left.
var RenewIn = renewIn
