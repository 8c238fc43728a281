package main

// authorityGuards protect the store: changes, the fleet, and healing.
var authorityGuards = []guard{
	{
		// Without it, a fresh authority takes the positions of an old copy of the store for the floor.
		name:  "floor of a fresh authority",
		file:  "services/authority/internal/fleet/floor.go",
		cuts:  []cut{{"f.since.IsZero() || len(f.awaited) > 0 && now.Sub(f.since) <= Lease", "f.since.IsZero()"}},
		tests: "TestB08_FreshAuthority|TestFloorOfARollingRestart", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name:  "floor file",
		file:  "services/authority/server/floor.go",
		cuts:  []cut{{"	r.SetFloor(f.floor.Positions())\n", ""}},
		tests: "TestB08_ColdStartOverAnOlderStore", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name: "changes of unproven apps are refused",
		file: "services/authority/internal/management/unloaded.go",
		cuts: []cut{{
			"	for _, partition := range opened.Replica().Unserved() {\n",
			"	for _, partition := range opened.Replica().Unserved()[:0] {\n",
		}},
		tests: "TestB20_UnprovablePartition", packages: []string{"./services/authority/internal/management"},
	},
	{
		name:  "ceiling of operators' epochs",
		file:  "services/store/tools/tools.go",
		cuts:  []cut{{"			case !at.Plausible(highest):\n", "			case !at.Plausible(highest) && partition < 0:\n"}},
		tests: "TestAdoptAboveAForgedPosition", packages: []string{"./services/store/tools"},
	},
	{
		name:  "implausible reports",
		file:  "services/authority/internal/fleet/read.go",
		cuts:  []cut{{"	if !r.plausible(int(at.GetPartition()), cursor) {\n", "	if r == nil {\n"}},
		tests: "TestBadReports", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		name:  "ids are compared as decimals",
		file:  "services/store/checks.lua",
		cuts:  []cut{{"  return #a < #b or #a == #b and a < b\n", "  return tonumber(a) < tonumber(b)\n"}},
		tests: "TestStreamIdsAreComparedExactly", packages: []string{storePackage},
	},
	{
		// Without it, a batch of usage counts is added once by each authority that it reaches.
		name: "batch number", file: "services/store/counts.lua",
		cuts:  []cut{{"  if last ~= ARGV[at] then\n    return 'CONFLICT'\n  end\n", ""}},
		tests: "TestB21_CountsAreWrittenOnce", packages: []string{storePackage},
	},
	{
		// Without it, a batch that is repeated is added again.
		name: "only the next batch", file: "services/authority/internal/ledger/commit.go",
		cuts:     []cut{{"b.Number > last && (b.Number == last+1 || b.Oldest)", "b.Number > 0"}},
		tests:    "TestB21_OnlyTheNextBatchIsAdded|TestB21_EveryDecisionIsCountedOnce",
		packages: []string{"./services/authority/internal/ledger"},
	},
	{
		name:  "request id",
		file:  "services/store/update.go",
		cuts:  []cut{{"	if f.request != nil {\n", "	if f.request != nil && partition < 0 {\n"}},
		tests: "TestRepeated", packages: []string{storePackage},
	},
	{
		name: "log-first order",
		file: "services/store/commit.lua",
		cuts: []cut{
			{"redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[3] .. '-0', 'l', ARGV[4])\n", ""},
			{
				"redis.call('SET', KEYS[1], ARGV[2])\n",
				"redis.call('SET', KEYS[1], ARGV[2])\n" +
					"redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[3] .. '-0', 'l', ARGV[4])\n",
			},
		},
		tests: "TestTheLogIsWrittenFirst|TestFullRedis", packages: []string{storePackage},
	},
	{
		// Without it, a commit without a reply is computed anew, on whatever the store has become.
		name:  "identical resend",
		file:  "services/store/commit.go",
		cuts:  []cut{{"			ambiguous = true\n", "			return conflict, durability, nil\n"}},
		tests: "TestLost", packages: []string{storePackage},
	},
	{
		name:  "lineage of a healing",
		file:  "services/store/heal_search.go",
		cuts:  []cut{{"connected = s.accounted(e.Previous) || e.OnNothing() ||", "connected = true ||"}},
		tests: "TestHeal", packages: []string{storePackage}, args: []string{"-rapid.nofailfile"},
	},
	{
		// Without it, an authority accepts changes on a restored store before the fleet has brought back what
		// the store lacks.
		name: "no change before an operator's epoch is healed", file: "services/store/store.go",
		cuts:  []cut{{`	if f.head.Unhealed {`, `	if f.head.Unhealed && partition < 0 {`}},
		tests: "TestB30_NoChangeIsMadeBefore", packages: []string{storePackage},
	},
	{
		name: "only a healing heals an operator's epoch", file: "services/store/begin.go",
		cuts:  []cut{{`!e.whole && (head.Unhealed ||`, `!e.whole && (`}},
		tests: "TestB30_NoChangeIsMadeBefore", packages: []string{storePackage},
	},
	{
		name: "an operator's epoch waits for the fleet", file: "services/authority/internal/healing/operator.go",
		cuts:  []cut{{`since >= heardAfter && len(silent) == 0`, `since >= heardAfter && len(silent) >= 0`}},
		tests: "TestB30_AnOperatorsEpoch", packages: []string{"./services/authority/internal/healing"},
	},
	{
		name: "three-way merge: what one side changed", file: "services/store/heal_merge.go",
		cuts:  []cut{{`touched := merge.Touched{All: !told}`, `touched := merge.Touched{All: told || !told}`}},
		tests: "TestHealMerges|TestHealKeepsWhatMatters", packages: []string{storePackage}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "three-way merge: the side that denies more", file: "services/store/internal/merge/token.go",
		cuts:  []cut{{`	next.State = max(ours.State, theirs.State)`, `	next.State = min(ours.State, theirs.State)`}},
		tests: "TestB30_", packages: []string{"./services/store/internal/merge"}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "three-way merge: no scope in common is not every scope", file: "services/store/internal/merge/token.go",
		cuts:  []cut{{`		return min(a, b), true`, `		return 0, false`}},
		tests: "TestB30_", packages: []string{"./services/store/internal/merge"}, args: []string{"-rapid.nofailfile"},
	},
	{
		name: "nothing settled unseen", file: "services/authority/internal/healing/healing.go",
		cuts:  []cut{{`return !supplied[tag]`, `return false`}},
		tests: "TestSettlesAgain", packages: []string{"./services/authority/internal/healing"},
	},
	{
		name: "a repetition is answered by an authority that holds the change", file: "services/store/update.go",
		cuts: []cut{{`case err != nil:
		return Result{}, refused, err
	case stored != nil:`, `case stored != nil:`}},
		tests: "TestRepetitionIsAnswered", packages: []string{"./services/store"},
	},
	{
		name: "signed membership", file: "services/authority/internal/fleet/membership.go",
		cuts: []cut{{
			"		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {\n",
			"		if m := r.members[id]; m != nil || entry != nil {\n",
		}},
		tests: "TestB24_RecordThatWasTakenAwayIsMissed", packages: []string{fleetPackage},
	},
	{
		// Without it, an old record of a member passes for the newest.
		name: "no older record of a member", file: "services/authority/internal/fleet/membership.go",
		cuts: []cut{{
			"		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {\n",
			"		if m := r.members[id]; m != nil {\n",
		}},
		tests: "TestB24_RecordThatWasTakenAwayIsMissed", packages: []string{fleetPackage},
	},
	{
		name: "skew in receipts", file: "services/authority/internal/fleet/clock.go",
		cuts:  []cut{{"	case ahead.Abs() > clockskew.Max:\n", "	case ahead.Abs() > clockskew.Max && silent:\n"}},
		tests: "TestB08_Skew|TestB24_EveryAuthorityKnowsTheClock", packages: []string{fleetPackage},
	},
	{
		// Without it, a clock that was set back counts as correct for seconds.
		name: "a clock that was set is judged anew", file: "services/authority/internal/fleet/clock.go",
		cuts:  []cut{{"	if c.set(r, now) {\n		c.known = [2]bool{}\n", "	if c.set(r, now) {\n"}},
		tests: "TestClockIsThatOfTheLeastDelayedReport|TestB08_Skew", packages: []string{fleetPackage},
	},
	{
		// Without it, a receipt says APPLIED by the clock skew of a report that is older than the record in
		// the hash.
		name: "a clock in the hash is seen", file: "services/authority/internal/fleet/share.go",
		cuts:  []cut{{"		m.clock.see(v.Clock)\n", ""}},
		tests: "TestB08_ARecordOfTheHash", packages: []string{fleetPackage},
	},
	{
		// Without it, changes that a history has already dealt with count as changes of the other side where
		// the log was trimmed, and older settings win.
		name: "changes that a history has dealt with", file: "services/store/heal_merge.go",
		cuts:  []cut{{"	case from.shared, from.dealt[h.stored.Tag]:\n", "	case from.shared:\n"}},
		tests: "TestB30_WhatAPastHasDealtWith", packages: []string{"./services/store"},
	},
	{
		// Without it, a copy from before several wipes counts as a history with changes of its own.
		name: "what an epoch start has settled before", file: "services/store/heal_search.go",
		cuts:  []cut{{"	for i := 0; i < len(tags); i++ {\n", "	for i := 0; i < 0; i++ {\n"}},
		tests: "TestB30_ABackupFromBeforeSeveralWipes", packages: []string{storePackage},
	},
	{
		name: "repair only of what is proven", file: "services/store/tools/repair_evidence.go",
		cuts:  []cut{{"h.codec.SealSum(partition, sum) == h.head.State", "(h.head != nil || sum != record.Sum{})"}},
		tests: "TestB08_HalfOfAChange|TestRepairOfWhatIsLost", packages: []string{"./services/store/tools/"},
	},
	{
		// Without it, an app whose latest change is lost returns in its state before that change, with what
		// the change had revoked.
		name: "undecided instead of older", file: "services/store/tools/repair_evidence.go",
		cuts:  []cut{{"		if revisionOf(d) != revision {\n			continue\n", "		if d == nil {\n			continue\n"}},
		tests: "TestRepairOfWhatIsLost", packages: []string{"./services/store/tools/"},
	},
	{
		// Without it, validators follow a repaired store that has lost revocations, and accept the revoked
		// tokens.
		name: "no repair below positions that were seen", file: "services/store/tools/repair.go",
		cuts:  []cut{{"m.Loss != nil && !plan.options.AcceptLoss {", "m.Loss != nil && plan == nil {"}},
		tests: "TestB08_RepairBelowWhatWasSeen", packages: []string{"./services/store/tools/"},
	},
	{
		name: "repair respects reports after the plan", file: "services/store/tools/repair_apply.go",
		cuts:  []cut{{"if m.Loss.equal(plan.seen.beyond(m.Partition, m.reach, m.highest)) {", "if plan != nil {"}},
		tests: "TestB08_RepairHeedsReports", packages: []string{"./services/store/tools/"},
	},
	{
		name: "repair only what was planned", file: "services/store/tools/repair_apply.go",
		cuts:  []cut{{"	if !bytes.Equal(expected.raw, m.expected) {\n", "	if bytes.Equal([]byte{0}, nil) {\n"}},
		tests: "TestRepairOfAStoreThatIsChangedMeanwhile", packages: []string{"./services/store/tools/"},
	},
	{
		name: "an overlap is not inherited", file: "services/authority/internal/rules/create.go",
		cuts:  []cut{{"own, _ := endsOf(before, &before.Tokens[i])", "own := old.ExpireMillis"}},
		tests: "TestB09_OverlapIsNotInherited", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "only names in the call are checked", file: "services/authority/internal/rules/change.go",
		cuts:  []cut{{"if back || t.Name != was.Name {", "if back || t.Name != \"\" {"}},
		tests: "TestB01_ClashDoesNotBlockTheApp", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "a future lockout is a lockout", file: "services/authority/internal/rules/lockout.go",
		cuts:  []cut{{"if until < authenticatedUntil(", "if until <= by.millis() && until < authenticatedUntil("}},
		tests: "TestB16_|TestRandomLives", packages: []string{"./services/authority/internal/rules"},
	},
	{
		name: "enforcement waits for readiness", file: "services/authority/internal/management/enforcement.go",
		cuts:  []cut{{"err != nil && !r.GetAllowRejections()", "err != nil && r == nil"}},
		tests: "TestB15_Gate", packages: []string{"./services/authority/internal/management"},
	},
	{
		// Without it, a trial that was allowed for a minute can be made permanent without a readiness report.
		name: "a longer trial waits for readiness", file: "services/authority/internal/management/enforcement.go",
		cuts: []cut{{
			"after.Enforcement.Beyond(before.Enforcement, by.Now.UnixMilli())",
			"e.scopes.Without(before.Enforcement.At(by.Now.UnixMilli()))",
		}},
		tests: "TestB15_WhatIsEnforcedForLonger", packages: []string{"./services/authority/internal/management"},
	},
	{
		name: "a scope without traffic is not ready", file: "services/authority/internal/readiness/readiness.go",
		cuts:  []cut{{" || t.unseen != 0 || t.unsupported != 0", ""}},
		tests: "TestB21_Findings", packages: []string{"./services/authority/internal/readiness"},
	},
	{
		// Without it, a token ends whose latest uses were not counted.
		name: "missing counts keep a rotation open", file: "services/authority/internal/upkeep/partition.go",
		cuts: []cut{{
			"return len(readiness.Missing(covered, from, now)) == 0 && " +
				"len(readiness.MissingOf(history.Counted(), covered, from)) == 0",
			"return !from.IsZero()",
		}},
		tests: "TestB09_UnusedRotationsEnd", packages: []string{"./services/authority/internal/upkeep"},
	},
	{
		// Without it, a validator whose clock is behind makes the uses of a token look older than they are.
		name: "uses by a clock that is behind", file: "services/authority/internal/readiness/missing.go",
		cuts:  []cut{{"[]time.Time{own, own.Add(-v.Ahead)}", "[]time.Time{own.Add(-v.Ahead)}"}},
		tests: "TestB09_UnusedRotationsEnd", packages: []string{"./services/authority/internal/upkeep"},
	},
	{
		// Without it, a Redis that has lost counts passes for one without traffic.
		name: "lost counts are known", file: "services/authority/internal/ledger/commit.go",
		cuts:     []cut{{"\t\tw.Lost = w.Lost || j.batch.Number > last.Number+1\n", ""}},
		tests:    "TestB21_LossesAreKnown|TestB21_LostCountsAreNeverHidden",
		packages: []string{"./services/authority/internal/ledger"},
	},
	{
		// Without it, a validator that nobody hears and that still decides is taken for one that has ended.
		name: "a silent validator may decide", file: "services/authority/internal/readiness/missing.go",
		cuts:  []cut{{"		case !v.Live:\n", "		case !v.Live && v.Heard.After(from):\n"}},
		tests: "TestB21_Incomplete", packages: []string{"./services/authority/internal/readiness"},
	},
	{
		// Without it, notices that were delivered keep new ones from being sent.
		name: "only pending notices wait for room", file: "services/authority/internal/notify/contents.go",
		cuts:  []cut{{"maxPending-c.pending()", "maxPending-len(c.entries)"}},
		tests: "TestB29_EndedNoticesTakeNoRoom", packages: []string{"./services/authority/internal/notify"},
	},
	{
		// Without it, a notice that holds for longer than it is remembered is sent again.
		name: "a notice that holds is remembered", file: "services/authority/internal/notify/entry.go",
		cuts:  []cut{{"e.unfound(now).Abs() >= renewAfter", "false"}},
		tests: "TestB29_HeldForLongIsSentOnce", packages: []string{"./services/authority/internal/notify"},
	},
	{
		// Without it, a delivery that could not be noted is repeated.
		name: "deliveries are noted late", file: "services/authority/internal/notify/outbox.go",
		cuts:  []cut{{"		o.unnoted[id] = e\n", ""}},
		tests: "TestB29_LostNoteOfADelivery", packages: []string{"./services/authority/internal/notify"},
	},
	{
		name: "no validator is forgotten without an audit row", file: "services/authority/internal/fleet/join.go",
		cuts:  []cut{{"if err := audit(ctx); err != nil {", "if err := audit(ctx); err != nil && m == nil {"}},
		tests: "TestB24_LostUntilForgotten", packages: []string{"./services/authority/internal/fleet"},
	},
	{
		// Without it, a caller with an open stream goes on with a key that was removed.
		name: "a removed key ends its streams", file: "services/authority/internal/identity/guard.go",
		cuts:  []cut{{"	_, err := s.allowed()\n	return err\n", "	return nil\n"}},
		tests: "TestB26_KeysFileChanges", packages: []string{"./services/authority/internal/identity"},
	},
	{
		// Without it, healing does not wait for the links that show what two histories share, and counts a
		// change of one side as a change of both.
		name: "links that lead to the store's history", file: "services/authority/internal/healing/operator.go",
		cuts:     []cut{{"(tip || !impatient)", "(tip || impatient && false)"}},
		tests:    "TestB30_AnOperatorsEpochIsHealedWhenTheFleetHasReported",
		packages: []string{"./services/authority/internal/healing"},
	},
	{
		// Without it, a validator with an unknown clock counts as one where a time has come, as soon as it
		// has come here.
		name: "an unknown clock", file: "services/authority/internal/fleet/clock.go",
		cuts:  []cut{{"known && !now.Add(", "!now.Add("}},
		tests: "TestB08_SkewCountsUntilTheTimeHasComeEverywhere", packages: []string{fleetPackage},
	},
}
