package main

const (
	replicaPackage = "./pkg/replica/"
	fleetPackage   = "./services/authority/internal/fleet/"
	storePackage   = "./services/authority/store/"
	model          = "TestAnyHistoryOfFaultsConverges"
)

// guards are the lines of defence that the promises rest on.
var guards = []guard{
	{
		name: "tag check",
		file: "pkg/replica/state.go",
		cuts: []cut{{" && link.PreviousTag == s.cursor.Tag\n", "\n"}},
		// A hint of a past that the store does not have must not be applied to another one.
		tests: "TestHint|TestPhantom|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "sticky denial",
		file:  "pkg/replica/sticky.go",
		cuts:  []cut{{"	if next != nil && next.Policy == nil {\n		return next", "	if next == nil || next != nil {\n		return next"}},
		tests: "TestB08_|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "head check",
		file:  "pkg/replica/replica.go",
		cuts:  []cut{{"case p.observe(heads[i].Raw, sent, before[i]) != nothing:", "case p.needsLoad() && p.observe(heads[i].Raw, sent, before[i]) != nothing:"}},
		tests: "TestLostHint|TestHints|TestHead|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "digest comparison",
		file:  "pkg/replica/observe.go",
		cuts:  []cut{{"case head.Cursor == cursor && p.sealed(head.State) != head.State:", "case false:"}},
		tests: "Digest|" + model, packages: []string{replicaPackage},
	},
	{
		// Without it, what nobody can open is left out of the count, and a field that was put there takes its place.
		name:  "digest comparison of a load",
		file:  "pkg/replica/prove.go",
		cuts:  []cut{{"return c.p.r.codec.SealSum(c.p.number, sum) == c.head.State", "return true"}},
		tests: "Load|Reload|TestB20_StrayFieldsHideNothing|TestFreshReplicaRefuses|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "fork refusal",
		file:  "pkg/replica/observe.go",
		cuts:  []cut{{"	return head.Before(least) || head.Epoch == least.Epoch", "	return head.Epoch == 0 && head.Epoch == least.Epoch"}},
		tests: "Fork", packages: []string{replicaPackage},
	},
	{
		name:  "floor",
		file:  "pkg/replica/fleet.go",
		cuts:  []cut{{"			p.floor = at.Cursor\n", ""}},
		tests: "TestB20_StoreBelowTheFloorIsAFork", packages: []string{replicaPackage},
	},
	{
		name:  "floor during a load",
		file:  "pkg/replica/load.go",
		cuts:  []cut{{"	if p.denied(loaded.cursor) {\n", "	if p.number < 0 {\n"}},
		tests: "TestFloorDuringALoad", packages: []string{replicaPackage},
	},
	{
		name:  "floor is no past",
		file:  "pkg/replica/fleet.go",
		cuts:  []cut{{"			p.floor = at.Cursor\n", "			p.confirmed = at.Cursor\n"}},
		tests: "TestFloorIsNoPast", packages: []string{replicaPackage},
	},
	{
		// Without it, a fresh authority takes what an old copy of the store says for the floor.
		name:  "floor of a fresh authority",
		file:  "services/authority/internal/fleet/floor.go",
		cuts:  []cut{{"f.since.IsZero() || len(f.owed) > 0 && now.Sub(f.since) <= Lease", "f.since.IsZero()"}},
		tests: "TestB08_FreshAuthority|TestFloorOfARollingRestart", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name:  "floor file",
		file:  "services/authority/server/floor.go",
		cuts:  []cut{{"	r.SetFloor(f.floor.Positions())\n", ""}},
		tests: "TestB08_ColdStartOverAnOlderStore", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name:  "unproven apps are refused",
		file:  "services/authority/internal/management/unloaded.go",
		cuts:  []cut{{"	for _, partition := range opened.Replica().Unserved() {\n", "	for _, partition := range opened.Replica().Unserved()[:0] {\n"}},
		tests: "TestB20_UnprovablePartition", packages: []string{"./services/authority/internal/management"},
	},
	{
		name:  "ceiling of positions",
		file:  "pkg/record/cursor.go",
		cuts:  []cut{{"	return c.Epoch > 0 && c.Epoch <= MaxPosition && c.Revision <= MaxPosition\n", "	return c.Epoch > 0\n"}},
		tests: "TestCeiling", packages: []string{"./pkg/record"},
	},
	{
		name:  "ceiling of operators' epochs",
		file:  "services/internal/storetools/storetools.go",
		cuts:  []cut{{"			case !at.Plausible(highest):\n", "			case partition < 0:\n"}},
		tests: "TestAdoptAboveAForgedPosition", packages: []string{"./services/internal/storetools"},
	},
	{
		name:  "implausible reports",
		file:  "services/authority/internal/fleet/read.go",
		cuts:  []cut{{"	if !r.plausible(int(at.GetPartition()), cursor) {\n", "	if r == nil {\n"}},
		tests: "TestBadReports", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name:  "ids are compared as decimals",
		file:  "services/authority/store/checks.lua",
		cuts:  []cut{{"  return #a < #b or #a == #b and a < b\n", "  return tonumber(a) < tonumber(b)\n"}},
		tests: "TestStreamIdsAreComparedExactly", packages: []string{storePackage},
	},
	{
		name:  "a lost app is undecided",
		file:  "pkg/validator/validator.go",
		cuts:  []cut{{"	} else if view.Missing {\n", "	} else if r == nil {\n"}},
		tests: "TestB20_AppThatTheStoreLostIsUndecided", packages: []string{"./pkg/validator"},
	},
	{
		name:  "receipts of what decides",
		file:  "pkg/report/session.go",
		cuts:  []cut{{"	if !s.decides() {\n", "	if s.decides == nil {\n"}},
		tests: "TestB24_WhatDoesNotDecide", packages: []string{"./pkg/report"},
	},
	{
		name:  "lost changes are held",
		file:  "pkg/replica/load.go",
		cuts:  []cut{{"	p.orphan(loaded.cursor, crossed)\n", ""}},
		tests: "TestChangesThatTheStoreLost", packages: []string{replicaPackage},
	},
	{
		name:  "patience with loads",
		file:  "pkg/replica/pace.go",
		cuts:  []cut{{"			if now == seen {\n", "			if now == seen && l == nil {\n"}},
		tests: "TestReloadThatStallsHoldsUpNoOther|TestPlacesAreLeft", packages: []string{replicaPackage},
	},
	{
		name:  "request id",
		file:  "services/authority/store/update.go",
		cuts:  []cut{{"	if f.request != nil {\n", "	if f.request != nil && partition < 0 {\n"}},
		tests: "TestRepeated", packages: []string{storePackage},
	},
	{
		name: "log-first order",
		file: "services/authority/store/commit.lua",
		cuts: []cut{
			{"redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[3] .. '-0', 'l', ARGV[4])\n", ""},
			{"redis.call('SET', KEYS[1], ARGV[2])\n", "redis.call('SET', KEYS[1], ARGV[2])\nredis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[3] .. '-0', 'l', ARGV[4])\n"},
		},
		tests: "TestTheLogIsWrittenFirst|TestFullRedis", packages: []string{storePackage},
	},
	{
		// Without it, a commit whose answer was lost is computed anew instead, on whatever the store has become.
		name:  "identical resend",
		file:  "services/authority/store/commit.go",
		cuts:  []cut{{"			ambiguous = true\n", "			return conflict, durability, nil\n"}},
		tests: "TestLost", packages: []string{storePackage},
	},
	{
		name:  "good-replica check",
		file:  "pkg/redisfeed/proof.go",
		cuts:  []cut{{"	return master && replicas <= 0\n", "	return master\n"}},
		tests: "TestDeposedMaster|TestMasterThatIsCutOff", packages: []string{"./pkg/redisfeed/"},
	},
	{
		name:  "own commits are held",
		file:  "pkg/replica/replica.go",
		cuts:  []cut{{"	p.pending = append(p.pending, pastLink{Cursor: link.Cursor, raw: raw})\n", ""}},
		tests: "TestChangeThatADeposedMaster", packages: []string{replicaPackage},
	},
	{
		name:  "lineage of a healing",
		file:  "services/authority/store/heal_plan.go",
		cuts:  []cut{{"connected = s.accounted(e.previous) || e.onNothing() ||", "connected = true ||"}},
		tests: "TestHeal", packages: []string{storePackage}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "wait after a restoration", file: "pkg/replica/unhealed.go",
		cuts:  []cut{{`if !head.Unhealed || p.r.heals ||`, `if head.Unhealed || p.r.heals ||`}},
		tests: "TestB08_FreshReplicaWaitsForTheFleet|TestRestoredStoreIsFollowedWhenItIsHealed", packages: []string{"./pkg/replica"},
	},
	{
		// Without it, an authority takes changes on a restored store before the fleet has brought back what it lacks.
		name: "no change before an operator's epoch is healed", file: "services/authority/store/store.go",
		cuts:  []cut{{`	if f.head.Unhealed {`, `	if f.head.Unhealed && partition < 0 {`}},
		tests: "TestB30_NoChangeIsMadeBefore", packages: []string{storePackage},
	},
	{
		name: "only a healing heals an operator's epoch", file: "services/authority/store/begin.go",
		cuts:  []cut{{`!e.whole && (head.Unhealed ||`, `!e.whole && (`}},
		tests: "TestB30_NoChangeIsMadeBefore", packages: []string{storePackage},
	},
	{
		name: "an operator's epoch waits for the fleet", file: "services/authority/internal/healing/operator.go",
		cuts:  []cut{{`since >= heardAfter && len(silent) == 0`, `since >= heardAfter && len(silent) >= 0`}},
		tests: "TestB30_AnOperatorsEpoch", packages: []string{"./services/authority/internal/healing"},
	},
	{
		name: "three-way merge: what one side changed", file: "services/authority/store/heal_merge.go",
		cuts:  []cut{{`touched := merge.Touched{All: !told}`, `touched := merge.Touched{All: told || !told}`}},
		tests: "TestHealMerges|TestHealKeepsWhatMatters", packages: []string{storePackage}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "three-way merge: the side that denies more", file: "services/authority/internal/merge/token.go",
		cuts:  []cut{{`	next.State = max(ours.State, theirs.State)`, `	next.State = min(ours.State, theirs.State)`}},
		tests: "TestB30_", packages: []string{"./services/authority/internal/merge"}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "three-way merge: no scope in common is not every scope", file: "services/authority/internal/merge/token.go",
		cuts:  []cut{{`		return min(a, b), true`, `		return 0, false`}},
		tests: "TestB30_", packages: []string{"./services/authority/internal/merge"}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "look before an old snapshot", file: "pkg/replica/contents.go",
		cuts:  []cut{{"	p.fresh.recall(c.VerifyTime)\n	return nil\n", "	p.fresh.recall(c.VerifyTime)\n	p.settle()\n	return nil\n"}},
		tests: "TestB08_OldSnapshotIsNotDecidedFromWhileRedisAnswers", packages: []string{"./pkg/validator"},
	},
	{
		name: "nothing settled unseen", file: "services/authority/internal/healing/healing.go",
		cuts:  []cut{{`return !seen[tag]`, `return false`}},
		tests: "TestSettlesAgain", packages: []string{"./services/authority/internal/healing"},
	},
	{
		name: "repetition by who holds it", file: "services/authority/store/update.go",
		cuts: []cut{{`case err != nil:
		return Result{}, refused, err
	case stored != nil:`, `case stored != nil:`}},
		tests: "TestRepetitionIsAnswered", packages: []string{"./services/authority/store"},
	},
	{
		name: "signed membership", file: "services/authority/internal/fleet/membership.go",
		cuts:  []cut{{"		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {\n", "		if m := r.members[id]; m != nil || entry != nil {\n"}},
		tests: "TestB24_RecordThatWasTakenAwayIsMissed", packages: []string{fleetPackage},
	},
	{
		// Without it, an old record of a member passes for the member's.
		name: "no older record of a member", file: "services/authority/internal/fleet/membership.go",
		cuts:  []cut{{"		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {\n", "		if m := r.members[id]; m != nil {\n"}},
		tests: "TestB24_RecordThatWasTakenAwayIsMissed", packages: []string{fleetPackage},
	},
	{
		name: "skew in receipts", file: "services/authority/internal/fleet/clock.go",
		cuts:  []cut{{"	case ahead.Abs() > report.MaxSkew:\n", "	case ahead.Abs() > report.MaxSkew && silent:\n"}},
		tests: "TestB08_Skew|TestB24_EveryAuthorityKnowsTheClock", packages: []string{fleetPackage},
	},
	{
		// Without it, a clock that was set back passes for right for seconds.
		name: "a clock that was set is judged anew", file: "services/authority/internal/fleet/clock.go",
		cuts:  []cut{{"	if c.set(r, now) {\n		c.known = [2]bool{}\n", "	if c.set(r, now) {\n"}},
		tests: "TestClockIsThatOfTheLeastDelayedReport|TestB08_Skew", packages: []string{fleetPackage},
	},
	{
		// Without it, a receipt says APPLIED by the skew of a report that is older than the record of the hash.
		name: "a clock in the hash is seen", file: "services/authority/internal/fleet/share.go",
		cuts:  []cut{{"		m.clock.see(v.Clock)\n", ""}},
		tests: "TestB08_ARecordOfTheHash", packages: []string{fleetPackage},
	},
	{
		// Without it, what a past has dealt with counts as the other's change where the log was trimmed, and older settings win.
		name: "what a past has dealt with", file: "services/authority/store/heal_merge.go",
		cuts:  []cut{{"	case from.shared, from.dealt[h.stored.Tag]:\n", "	case from.shared:\n"}},
		tests: "TestB30_WhatAPastHasDealtWith", packages: []string{"./services/authority/store"},
	},
	{
		// Without it, a copy from before several wipes passes for a past that has changed something by itself.
		name: "what a start has settled in turn", file: "services/authority/store/heal_plan.go",
		cuts:  []cut{{"	for i := 0; i < len(tags); i++ {\n", "	for i := 0; i < 0; i++ {\n"}},
		tests: "TestB30_ABackupFromBeforeSeveralWipes", packages: []string{storePackage},
	},
	{
		// Without it, what was switched off before a wipe is on again after an older backup is restored.
		name: "a change that makes an app gives its settings", file: "pkg/record/link.go",
		cuts:  []cut{{"l.SettingsKept = !made && ", "l.SettingsKept = "}},
		tests: "TestB30_WhatWasSwitchedOffBeforeAWipe", packages: []string{storePackage},
	},
	{
		// Without it, a replica forgets what only it holds when the master is replaced while it loads.
		name: "the past is read from the store that was loaded", file: "pkg/replica/past.go",
		cuts:  []cut{{"to.Revision > from.Revision && end != from.Cursor:", "to.Revision > from.Revision && false:"}},
		tests: "TestCrossingThatMeetsAnotherStore", packages: []string{replicaPackage},
	},
	{
		// Without it, a replica that was started after an operator's epoch holds nothing from before it, and nobody may be left who
		// can supply that.
		name: "the past is read across a jump of revisions", file: "pkg/replica/past.go",
		cuts:  []cut{{"p.filled = base == 0 || base > after ||", "p.filled = base >= 0 ||"}},
		tests: "TestB30_|" + model, packages: []string{replicaPackage},
	},
	{
		// Without it, a change of a fork from before a wipe is taken for a part of the log that was trimmed.
		name: "nothing lies before a log that was begun on nothing", file: "pkg/replica/past.go",
		cuts:  []cut{{"	if e.onNothing() {\n", "	if e.onNothing() && c.first == 0 {\n"}},
		tests: "TestB08_ForkOfAReplicaThatWasAway", packages: []string{replicaPackage},
	},
	{
		// Without it, what is counted while the same count is taken is in nothing that is ever taken.
		name: "late usage is counted again", file: "pkg/usage/usage.go",
		cuts:  []cut{{`c != nil && c.add() {`, `c != nil && (c.add() || true) {`}},
		tests: "TestB21_LateAdditions", packages: []string{"./pkg/usage"},
	},
	{
		name: "documents that verify are never left out", file: "pkg/replica/prove.go",
		cuts:  []cut{{"		if d.damage == nil {\n			c.good", "		if d.damage == nil && d.entry.Revision <= head.Revision {\n			c.good"}},
		tests: "TestB20_StrayFieldsHideNothing", packages: []string{replicaPackage},
	},
	{
		name: "repair of what is proven", file: "services/internal/storetools/remains.go",
		cuts:  []cut{{"h.codec.SealSum(partition, sumOf(h.codec, partition, h.head.State.EmptySum(), apps)) == h.head.State", "h.head != nil"}},
		tests: "TestB08_HalfOfAChange|TestRepairOfWhatIsLost", packages: []string{"./services/internal/storetools/"},
	},
	{
		// Without it, an app whose latest change is gone comes back as it was before it, with what the change had revoked.
		name: "undecided rather than older", file: "services/internal/storetools/remains.go",
		cuts:  []cut{{"		if revisionOf(d) != revision {\n			continue\n", "		if d == nil {\n			continue\n"}},
		tests: "TestRepairOfWhatIsLost", packages: []string{"./services/internal/storetools/"},
	},
	{
		// Without it, a repair of a store that has lost revocations would make validators follow it without them.
		name: "no repair below what was seen", file: "services/internal/storetools/repair.go",
		cuts:  []cut{{"m.Loss != nil && !plan.options.AcceptLoss {", "m.Loss != nil && plan == nil {"}},
		tests: "TestB08_RepairBelowWhatWasSeen", packages: []string{"./services/internal/storetools/"},
	},
	{
		name: "repair heeds what is reported after the plan", file: "services/internal/storetools/mend.go",
		cuts:  []cut{{"if m.Loss.equal(plan.seen.beyond(m.Partition, m.reach, m.highest)) {", "if plan != nil {"}},
		tests: "TestB08_RepairHeedsReports", packages: []string{"./services/internal/storetools/"},
	},
	{
		name: "repair of what was planned", file: "services/internal/storetools/mend.go",
		cuts:  []cut{{"	if !bytes.Equal(expected.raw, m.expected) {\n", "	if bytes.Equal([]byte{0}, nil) {\n"}},
		tests: "TestRepairOfAStoreThatIsChangedMeanwhile", packages: []string{"./services/internal/storetools/"},
	},
	{
		// Without it, an app that is past a limit could never be changed again, not even to revoke a token.
		name: "a document opens before it is sealed", file: "pkg/record/document.go",
		cuts:  []cut{{"OpenDocument(d.AppID, raw); err != nil {", "OpenDocument(d.AppID, raw); err != nil && raw == nil {"}},
		tests: "TestB08_WhatDoesNotOpenIsNotSealed", packages: []string{"./pkg/record"},
	},
	{
		name: "remembered digests stay in force", file: "pkg/replica/sticky.go",
		cuts:  []cut{{"for t := range forgotten.Tokens() {", "for t := range (policy.Memory{}).Union(policy.Memory{}).Tokens() {"}},
		tests: "TestB08_RememberedDigestStaysInForce", packages: []string{replicaPackage},
	},
	{
		name: "nobody inherits an overlap", file: "services/authority/internal/rules/create.go",
		cuts:  []cut{{"own, _ := endsOf(before, &before.Tokens[i])", "own := old.ExpireMillis"}},
		tests: "TestB09_OverlapIsNotInherited", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "only names that a call gives are checked", file: "services/authority/internal/rules/change.go",
		cuts:  []cut{{"if back || t.Name != was.Name {", "if back || t.Name != \"\" {"}},
		tests: "TestB01_ClashDoesNotBlockTheApp", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "a lockout to come is a lockout", file: "services/authority/internal/rules/lockout.go",
		cuts:  []cut{{"if until < authenticatedUntil(", "if until <= by.millis() && until < authenticatedUntil("}},
		tests: "TestB16_|TestRandomLives", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "no validator is forgotten without a row", file: "services/authority/internal/fleet/join.go",
		cuts:  []cut{{"if err := audit(ctx); err != nil {", "if err := audit(ctx); err != nil && m == nil {"}},
		tests: "TestB24_LostUntilForgotten", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name: "authentication before the body", file: "pkg/grpcserver/receive.go",
		cuts:  []cut{{"	if r == nil {\n		return service\n", "	if r != nil {\n		return service\n"}},
		tests: "TestB26_EveryCallIsRefusedByItsHeader", packages: []string{"./services/authority/server"},
	},
	{
		name: "bound on catch-up reads", file: "pkg/replica/asks.go",
		cuts:  []cut{{"a.vain = min(a.vain+1, maxVainReads)", "a.vain = 0"}},
		tests: "TestB25_MadeUpRevisions|TestReachReadsOnceIn10ms", packages: []string{replicaPackage},
	},
	{
		name: "small messages to open services", file: "pkg/grpcserver/open.go",
		cuts:  []cut{{"	if size > openMaxReceive {\n", "	if size == 0 {\n"}},
		tests: "TestOpenServicesTakeOnlySmallMessages", packages: []string{"./pkg/grpcserver"},
	},
	{
		// Without it, a full pipe on the standard error holds up every goroutine that logs.
		name: "asynchronous log", file: "services/internal/asynclog/asynclog.go",
		cuts:  []cut{{"	w.mu.Lock()\n	if w.closed.Err() != nil ||", "	if w != nil {\n		return w.to.Write(lines)\n	}\n	w.mu.Lock()\n	if w.closed.Err() != nil ||"}},
		tests: "TestBlockedFile", packages: []string{"./services/internal/asynclog"},
	},
	{
		// Without it, a write to a closed standard error ends the process.
		name: "a closed log kills nothing", file: "services/internal/daemon/stderr.go",
		cuts:  []cut{{"	signal.Ignore(syscall.SIGPIPE)\n", "	signal.Reset(syscall.SIGPIPE)\n"}},
		tests: "TestStandardError", packages: []string{"./services/internal/daemon"},
	},
	{
		name: "a bad file changes nothing", file: "pkg/reload/reload.go",
		cuts:  []cut{{"		if err == nil {\n			err = untimely(value.Get(), next, time.Now())\n		}\n		if err == nil {\n", "		if value != nil {\n"}},
		tests: "TestBadFiles", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a damaged certificate is left out of a list, and all that trust it are refused.
		name: "every block of PEM is read", file: "pkg/reload/pem.go",
		cuts:  []cut{{"	if len(blocks) != want {\n", "	if len(blocks) > want {\n"}},
		tests: "TestDamagedCertificates", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a certificate that was refused before its time is not used when its time comes.
		name: "a file that was refused is tried again", file: "pkg/reload/source.go",
		cuts:  []cut{{"			s.retry(log, now, contents)\n", "			_ = contents\n"}},
		tests: "TestTimeComes", packages: []string{"./pkg/reload"},
	},
	{
		// Without it, a caller that has a stream open goes on with a key that was taken away.
		name: "a key that is taken away ends its streams", file: "services/authority/internal/identity/guard.go",
		cuts:  []cut{{"	_, err := s.allowed()\n	return err\n", "	return nil\n"}},
		tests: "TestB26_KeysFileChanges", packages: []string{"./services/authority/internal/identity"},
	},
	{
		// Without it, a session is resumed by a client whose authority was taken out of the file.
		name: "no session outlives its authority", file: "pkg/grpcserver/tls.go",
		cuts:  []cut{{"	config.SessionTicketsDisabled = true\n", ""}},
		tests: "TestRenewedClientAuthorities", packages: []string{"./pkg/grpcserver"},
	},
	{
		// Without it, a sender that takes its request back makes an outage, which a rule of the ingest tier may let through.
		name: "cancelled request",
		file: "pkg/client/outage.go",
		cuts: []cut{
			{"	if ctx.Err() != nil {\n		return true\n", "	if ctx == nil {\n		return true\n"},
			{"	if ctx.Err() != nil {\n		return false\n", "	if ctx == nil {\n		return false\n"},
			{"	case codes.Unavailable, codes.DeadlineExceeded:\n", "	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:\n"},
		},
		tests: "TestB20_ResetRequest|TestB20_EndedRequest|TestB20_AnswerToAnEnded", packages: []string{"./pkg/client"},
	},
	{
		// Without it, one validator that hangs or vanishes fails the questions that it was asked.
		name: "another validator is asked", file: "pkg/client/again.go",
		cuts: []cut{
			{"	case !s.route.Taken():\n", "	case s.route != nil:\n"},
			{"return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil", "return verdict < 0"},
		},
		tests: "TestB20_OneValidatorInTrouble", packages: []string{"./pkg/client"},
	},
	{
		name: "another validator than the first", file: "pkg/client/internal/spread/route.go",
		cuts:  []cut{{"		other.avoided = r.chosen.Load()\n", ""}},
		tests: "TestDialAsksWhoServes|TestPick", packages: []string{"./pkg/client", "./pkg/client/internal/spread"},
	},
	{
		name: "nobody who does not serve", file: "pkg/client/internal/spread/spread.go",
		cuts:  []cut{{"HealthCheck: true", "HealthCheck: false"}},
		tests: "TestDialAsksWhoServes", packages: []string{"./pkg/client"},
	},
	{
		// Without it, a validator that cannot answer makes an outage of the denial that another one is about to give.
		name: "a late denial is no outage", file: "pkg/client/again.go",
		cuts:  []cut{{"	if conclusive(s.err) {\n", "	if decided(s.err) {\n"}},
		tests: "TestB20_ALateDenial", packages: []string{"./pkg/client"},
	},
	{
		// Without it, whoever asks about an app that nobody can decide about leaves no second question for other apps.
		name: "one app costs others no second question", file: "pkg/client/again.go",
		cuts:  []cut{{"	if spread.VerdictOf(err) != spread.Lacking {\n", "	if spread.VerdictOf(err) != spread.Decided {\n"}},
		tests: "TestB20_OneAppCosts", packages: []string{"./pkg/client"},
	},
	{
		name: "an answer is not asked again", file: "pkg/client/again.go",
		cuts: []cut{
			{"return spread.VerdictOf(err) == spread.Decided }", "return err == nil }"},
			{"return (verdict == spread.Refused || verdict == spread.Lacking) && ctx.Err() == nil", "return (verdict == verdict) && ctx.Err() == nil"},
		},
		tests: "TestB20_DecidedIsAskedOnce", packages: []string{"./pkg/client"},
	},
	{
		// Without it, an outage of all validators doubles what they are asked.
		name: "budget of second questions", file: "pkg/client/budget.go",
		cuts:  []cut{{"return b.spent.Load() < most*answersPerToken/2", "return b.spent.Load() >= 0"}},
		tests: "TestBudget", packages: []string{"./pkg/client"},
	},
	{
		// Without it, a proxy that the environment names sees every secret.
		name: "no proxy", file: "pkg/client/dial.go",
		cuts:  []cut{{"		grpc.WithContextDialer(d.dial),\n		grpc.WithNoProxy(),\n", ""}},
		tests: "TestNoProxy", packages: []string{"./pkg/client"},
	},
}
