package client

// Waiting returns how many messages wait to be sent with others.
func (c *Client) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.posts)
}
