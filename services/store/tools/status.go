package tools

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/record"
)

// Status is the result of a look at a store that does not prove its documents.
type Status struct {
	StoreID    string    `json:"storeId"`
	CreateTime time.Time `json:"createTime"`
	Partitions int       `json:"partitions"`
	// Epochs are the lowest and the highest epoch of the heads.
	Epochs [2]uint64 `json:"epochs"`
	// Revisions is the sum of the heads' revisions. It grows by one with each change, and by more with each
	// epoch.
	Revisions uint64 `json:"revisions"`
	// Apps counts documents, including those of deleted apps.
	Apps uint64 `json:"apps"`
	// Heads are the heads that are missing or do not verify.
	Heads []Finding `json:"heads"`
	// BelowFloor are heads below the floor of an authority, if its floor file was given.
	BelowFloor []Finding `json:"belowFloor"`
	// Servers are the masters of the Redis.
	Servers []Server `json:"servers"`
	// Validators are the validators that have reported.
	Validators []Validator `json:"validators"`
	// Warnings say what should be changed.
	Warnings []string `json:"warnings"`
}

// Server is one master of the Redis.
type Server struct {
	Version     string `json:"version"`
	Role        string `json:"role"`
	Replicas    int    `json:"replicas"`
	UsedMemory  uint64 `json:"usedMemory"`
	MaxMemory   uint64 `json:"maxMemory"` // 0: no limit
	Eviction    string `json:"eviction"`
	AppendOnly  bool   `json:"appendOnly"`
	AppendFsync string `json:"appendFsync"` // empty when it may not be asked for
}

// Validator is one validator by its latest report.
type Validator struct {
	ID         string    `json:"id"`
	ReportTime time.Time `json:"reportTime"`
	// Behind and Ahead count the partitions in which its latest report was behind or ahead of the store.
	Behind int `json:"behind"`
	Ahead  int `json:"ahead"`
	// Orphans counts the orphans that it holds.
	Orphans int `json:"orphans"`
}

// Status reads the state of a store.
func (t *Tools) Status(ctx context.Context) (Status, error) {
	codec, err := t.codec(ctx)
	if err != nil {
		return Status{}, err
	}
	meta := codec.Meta()
	s := Status{StoreID: meta.StoreID, CreateTime: meta.CreateTime, Partitions: meta.Partitions}
	// The reports are read before the heads, so that what was changed meanwhile is not taken for lost.
	reports, fleetErr := t.fleet(ctx, codec)
	heads, err := t.heads(ctx, codec, &s)
	if err != nil {
		return Status{}, err
	}
	wrong, err := t.misfitsOf(ctx, codec.Partitions())
	if err != nil {
		return Status{}, err
	}
	for _, key := range wrong {
		s.warn("%s (countersign store repair)", key)
	}
	t.servers(ctx, &s)
	for _, bad := range s.Heads {
		s.warn("%s", bad)
	}
	if fleetErr != nil {
		s.warn("the reports of validators could not be read: %v", fleetErr)
	}
	s.compare(reports, heads)
	t.compareFloor(&s, codec, heads)
	if unused(codec.Meta(), heads) {
		s.warn("nothing was ever changed in this store, which is older than an hour: if it held apps, it came back empty")
	}
	s.Heads, s.BelowFloor, s.Servers, s.Validators, s.Warnings = listed(s.Heads), listed(s.BelowFloor), listed(s.Servers),
		listed(s.Validators), listed(s.Warnings)
	return s, nil
}

// heads reads every head. A head that is missing or does not verify is nil.
func (t *Tools) heads(ctx context.Context, codec *record.Codec, s *Status) ([]*record.Head, error) {
	reads, err := t.readHeads(ctx, codec)
	if reads == nil {
		return nil, err
	}
	heads := make([]*record.Head, len(reads))
	for i, read := range reads {
		where := record.KeysOf(i).Head
		head, err := codec.OpenHead(i, read.Raw)
		switch {
		case read.Err != nil:
			s.Heads = append(s.Heads, Finding{where, "cannot be read: " + read.Err.Error()})
			continue
		case read.Raw == nil:
			s.Heads = append(s.Heads, Finding{where, "is missing"})
			continue
		case err != nil:
			s.Heads = append(s.Heads, Finding{where, "does not verify: " + err.Error()})
			continue
		}
		heads[i] = &head
		s.Apps += head.Policies
		s.Revisions += head.Revision
		if s.Epochs[0] == 0 || head.Epoch < s.Epochs[0] {
			s.Epochs[0] = head.Epoch
		}
		s.Epochs[1] = max(s.Epochs[1], head.Epoch)
	}
	return heads, nil
}

func (s *Status) warn(format string, args ...any) {
	if words := fmt.Sprintf(format, args...); !slices.Contains(s.Warnings, words) {
		s.Warnings = append(s.Warnings, words)
	}
}

// servers reads the settings of each master.
func (t *Tools) servers(ctx context.Context, s *Status) {
	err := t.eachMaster(ctx, func(ctx context.Context, master redis.Cmdable) error {
		text, err := master.Info(ctx).Result()
		if err != nil {
			return err
		}
		info := fields(text)
		server := Server{
			Version: info["redis_version"], Role: info["role"], Replicas: int(number(info["connected_slaves"])),
			UsedMemory: number(info["used_memory"]), MaxMemory: number(info["maxmemory"]), Eviction: info["maxmemory_policy"],
			AppendOnly: info["aof_enabled"] == "1",
		}
		if set, err := master.ConfigGet(ctx, "appendfsync").Result(); err == nil {
			server.AppendFsync = set["appendfsync"]
		}
		s.Servers = append(s.Servers, server)
		server.warnings(s, info)
		return nil
	})
	if err != nil {
		s.warn("the settings of Redis could not be read: %v", err)
	}
}

func (server *Server) warnings(s *Status, info map[string]string) {
	if server.Role != "master" {
		s.warn("Redis says that it is a %s: it loses or refuses writes", server.Role)
	}
	if !server.AppendOnly {
		s.warn("appendonly is off: writes since the last dump are lost when Redis stops (appendonly yes)")
	}
	if server.AppendOnly && server.AppendFsync != "" && server.AppendFsync != "always" {
		s.warn("appendfsync is %s: the last second is lost when the machine stops (appendfsync always)", server.AppendFsync)
	}
	if server.Eviction != "" && server.Eviction != "noeviction" {
		s.warn("maxmemory-policy is %s: Redis may throw policies away (maxmemory-policy noeviction)", server.Eviction)
	}
	if server.MaxMemory > 0 && server.UsedMemory > server.MaxMemory/10*9 {
		s.warn("%d %% of maxmemory is used; a full Redis accepts only revoking and disabling",
			server.UsedMemory*100/server.MaxMemory)
	}
	if server.Replicas == 0 {
		s.warn("there is no replica: changes have one copy")
	}
	for _, field := range []string{"rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"} {
		if status := info[field]; status != "" && status != "ok" {
			s.warn("%s is %s: Redis could not write to its disk", field, status)
		}
	}
}

// fields parses an answer to INFO.
func fields(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			all[name] = value
		}
	}
	return all
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// compare compares the validators' reports with the store.
func (s *Status) compare(reports []*record.Validator, heads []*record.Head) {
	for _, v := range reports {
		shown := Validator{ID: v.ID, ReportTime: v.Reported, Orphans: v.Orphans}
		for partition, at := range v.Cursors {
			switch head := heads[partition]; {
			case head == nil:
			case head.Before(at):
				shown.Ahead++
			case at.Before(head.Cursor):
				shown.Behind++
			}
		}
		if shown.Ahead > 0 || shown.Orphans > 0 {
			s.warn("validator %s knows of changes that the store does not have", v.ID)
		}
		s.Validators = append(s.Validators, shown)
	}
}
