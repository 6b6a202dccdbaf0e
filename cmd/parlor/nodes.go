package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"parlor/store"
)

// nodesTimeout is how long the database may take to answer, including the connection.
const nodesTimeout = 15 * time.Second

// NodesCmd lists the servers that share a database.
type NodesCmd struct {
	BesideServer
}

// Run prints a line for each server. The database lists them, so none has to run.
func (c *NodesCmd) Run(ctx context.Context, to console) (err error) {
	url, stop, err := c.database(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	nodes, now, err := store.ListNodes(ctx, url)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return to.print("no servers are registered in this database")
	}
	table := tabwriter.NewWriter(to.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "STATE\tNAME\tID\tSTREAMS\tSTARTED\tLEASE\tVERSION") // Flush returns its error
	for _, n := range nodes {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			n.State(now), n.Name, n.Lease.Node, n.Streams, n.StartedAt.UTC().Format(time.RFC3339), n.Until.Sub(now).Round(time.Second), n.Version)
	}
	return table.Flush()
}
