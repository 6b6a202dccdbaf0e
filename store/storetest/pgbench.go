package storetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	pgbenchSeconds = 5
	// pgbenchBody is as long as that of a message of a few words.
	pgbenchBody = `{"messageList":[{"messageID":"01980000-0000-7000-8000-000000000000","kind":"text","text":"good morning, everybody",` +
		`"sender":{"userID":"user1","userName":"user1"},"priority":"medium","sentAt":"2026-01-01T00:00:00.000Z"}]}`
)

var pgbenchRate = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbenchLoad is what pgbench does: from so many connections, so many rows in a
// transaction of one statement that was prepared before. Numbered rows get their
// numbers from a log, as messages do: a transaction updates the log's row, too.
type pgbenchLoad struct {
	clients, rows int
	numbered      bool
}

// pgbench is how many rows a second PostgreSQL takes when nothing is decided about
// them: rows as messages leave them, in a table with the columns and the indexes of
// events. It is what appends are measured by.
func pgbench(t testing.TB, database string, load pgbenchLoad) float64 {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var folder string // pgbench is installed with PostgreSQL
	if err := conn.QueryRow(context.Background(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&folder); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(context.Background(), `
		CREATE TABLE pgbench_events (LIKE events INCLUDING ALL);
		CREATE TABLE pgbench_logs (LIKE logs INCLUDING ALL) WITH (fillfactor = 25);
		INSERT INTO pgbench_logs (generation, last_seq) SELECT generate_series(0, 99), 0`); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = conn.Exec(context.Background(), "DROP TABLE pgbench_events, pgbench_logs") }()
	script := filepath.Join(t.TempDir(), "insert.sql")
	if err := os.WriteFile(script, []byte(load.script()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(folder, "pgbench"), "--no-vacuum", "--protocol=prepared",
		"--client="+strconv.Itoa(load.clients), "--jobs="+strconv.Itoa(min(load.clients, 2)), "--time="+strconv.Itoa(pgbenchSeconds), "--define=seq=0",
		"--file="+script, database).CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench: %v\n%s", err, out)
	}
	found := pgbenchRate.FindSubmatch(out)
	if found == nil {
		t.Fatalf("pgbench prints no rate:\n%s", out)
	}
	transactions, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return transactions * float64(load.rows)
}

// script is a transaction of pgbench. Each client fills a log of its own.
func (l pgbenchLoad) script() string {
	values := make([]string, l.rows)
	for i := range values {
		values[i] = fmt.Sprintf("(:client_id, :seq + %d, 'roomMessageReceived', '%s', 'user' || :client_id, NULL, '%s', '100')",
			i, time.Now().UTC().Format(time.RFC3339), pgbenchBody)
	}
	insert := "INSERT INTO pgbench_events (generation, seq, type, at, sender_id, client_message_id, body, xact) VALUES " +
		strings.Join(values, ",\n") + ";\n"
	if l.numbered {
		return "BEGIN;\n" +
			"UPDATE pgbench_logs SET last_seq = last_seq + 1 WHERE generation = :client_id RETURNING last_seq AS seq \\gset\n" +
			insert + "COMMIT;\n"
	}
	return fmt.Sprintf("\\set seq :seq + %d\n", l.rows) + insert
}

// BenchmarkPgbench reports what pgbench measures: a plain commit after the other,
// the same with rows that are numbered, single rows from 16 connections, and 50 rows
// at a time.
func BenchmarkPgbench(b *testing.B, database string) {
	for _, load := range []pgbenchLoad{{clients: 1, rows: 1}, {clients: 1, rows: 1, numbered: true}, {clients: 16, rows: 1}, {clients: 16, rows: 50}} {
		b.Run(fmt.Sprintf("pgbench/clients=%d/rows=%d/numbered=%t", load.clients, load.rows, load.numbered), func(b *testing.B) {
			var sum float64
			for b.Loop() {
				sum += pgbench(b, database, load)
			}
			b.ReportMetric(sum/float64(b.N), "rows/s")
			b.ReportMetric(float64(load.clients*load.rows)*float64(b.N)/sum*1e6, "µs/commit")
			b.ReportMetric(0, "ns/op")
		})
	}
}
