package main

// replicaGuards protect what validators and authorities hold in memory, and what they decide from it.
var replicaGuards = []guard{
	{
		name: "tag check",
		file: "pkg/replica/state.go",
		cuts: []cut{{" && link.PreviousTag == s.cursor.Tag\n", "\n"}},
		// A hint from a history that the store does not have must not be applied to another history.
		tests: "TestHint|TestPhantom|" + model, packages: []string{replicaPackage},
	},
	{
		name: "sticky denial",
		file: "pkg/replica/sticky.go",
		cuts: []cut{{
			"	if next != nil && next.Policy == nil {\n		return next",
			"	if next == nil || next != nil {\n		return next",
		}},
		tests: "TestB08_|" + model, packages: []string{replicaPackage},
	},
	{
		name: "head check",
		file: "pkg/replica/replica.go",
		cuts: []cut{{
			"case p.checkHead(heads[i].Raw, sent, before[i]) != nothing:",
			"case p.needsLoad() && p.checkHead(heads[i].Raw, sent, before[i]) != nothing:",
		}},
		tests: "TestLostHint|TestHints|TestHead|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "digest comparison",
		file:  "pkg/replica/check_head.go",
		cuts:  []cut{{"case head.Cursor == cursor && p.sealed(head.State) != head.State:", "case false:"}},
		tests: "Digest|" + model, packages: []string{replicaPackage},
	},
	{
		// Without it, a damaged record is left out of the digest, and a planted field takes its place.
		name:  "digest comparison of a load",
		file:  "pkg/replica/prove.go",
		cuts:  []cut{{"return c.p.r.codec.SealSum(c.p.number, sum) == c.head.State", "return true"}},
		tests: "Load|Reload|TestB20_StrayFieldsHideNothing|TestFreshReplicaRefuses|" + model, packages: []string{replicaPackage},
	},
	{
		name:  "fork refusal",
		file:  "pkg/replica/check_head.go",
		cuts:  []cut{{"head.Before(least) || head.Conflicts(least)", "head.Epoch == 0 && head.Conflicts(least)"}},
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
		cuts:  []cut{{"	if p.deniedBy(loaded.cursor) {\n", "	if p.number < 0 {\n"}},
		tests: "TestFloorDuringALoad", packages: []string{replicaPackage},
	},
	{
		name:  "a floor is no history",
		file:  "pkg/replica/fleet.go",
		cuts:  []cut{{"			p.floor = at.Cursor\n", "			p.confirmed = at.Cursor\n"}},
		tests: "TestFloorIsNoPast", packages: []string{replicaPackage},
	},
	{
		name:  "ceiling of positions",
		file:  "pkg/record/cursor.go",
		cuts:  []cut{{"	return c.Epoch > 0 && c.Epoch <= MaxPosition && c.Revision <= MaxPosition\n", "	return c.Epoch > 0\n"}},
		tests: "TestCeiling", packages: []string{"./pkg/record"},
	},
	{
		name:  "a lost app is undecided",
		file:  "pkg/validator/validator.go",
		cuts:  []cut{{"	} else if view.Missing {\n", "	} else if r == nil {\n"}},
		tests: "TestB20_AppThatTheStoreLostIsUndecided", packages: []string{"./pkg/validator"},
	},
	{
		name:  "receipts only for data that decides",
		file:  "pkg/validator/internal/fleet/session.go",
		cuts:  []cut{{"	if !s.decides() {\n", "	if s.decides == nil {\n"}},
		tests: "TestB24_WhatDoesNotDecide", packages: []string{"./pkg/validator/internal/fleet"},
	},
	{
		name:  "lost changes are kept",
		file:  "pkg/replica/load.go",
		cuts:  []cut{{"	p.keepOrphans(loaded.cursor, crossed)\n", ""}},
		tests: "TestChangesThatTheStoreLost", packages: []string{replicaPackage},
	},
	{
		name:  "patience with slow loads",
		file:  "pkg/replica/limiter.go",
		cuts:  []cut{{"			if now == seen {\n", "			if now == seen && l == nil {\n"}},
		tests: "TestReloadThatStallsHoldsUpNoOther|TestSlots", packages: []string{replicaPackage},
	},
	{
		name:  "good-replica check",
		file:  "pkg/redisfeed/proof.go",
		cuts:  []cut{{"	return master && replicas <= 0\n", "	return master\n"}},
		tests: "TestDeposedMaster|TestMasterThatIsCutOff", packages: []string{"./pkg/redisfeed/"},
	},
	{
		name:  "own commits are kept",
		file:  "pkg/replica/replica.go",
		cuts:  []cut{{"	p.pending = append(p.pending, pastLink{Cursor: link.Cursor, raw: raw})\n", ""}},
		tests: "TestChangeThatADeposedMaster", packages: []string{replicaPackage},
	},
	{
		name: "wait after a restoration", file: "pkg/replica/unhealed.go",
		cuts:     []cut{{`if !head.Unhealed || p.r.heals ||`, `if head.Unhealed || p.r.heals ||`}},
		tests:    "TestB08_FreshReplicaWaitsForTheFleet|TestRestoredStoreIsFollowedWhenItIsHealed",
		packages: []string{"./pkg/replica"},
	},
	{
		name: "check Redis before an old snapshot", file: "pkg/replica/export.go",
		cuts:  []cut{{"	p.fresh.recall(c.VerifyTime)\n	return nil\n", "	p.fresh.recall(c.VerifyTime)\n	p.serve()\n	return nil\n"}},
		tests: "TestB08_OldSnapshotIsNotDecidedFromWhileRedisAnswers", packages: []string{"./pkg/validator"},
	},
	{
		// Without it, enforcement that was switched off before a wipe is on again after an older backup is
		// restored.
		name: "a change that creates an app sets its settings", file: "pkg/record/link.go",
		cuts:  []cut{{"l.SettingsKept = !created && ", "l.SettingsKept = "}},
		tests: "TestB30_WhatWasSwitchedOffBeforeAWipe", packages: []string{storePackage},
	},
	{
		// Without it, a replica forgets changes that only it holds when the master is replaced during a load.
		name: "history is read from the store that was loaded", file: "pkg/replica/orphans.go",
		cuts:  []cut{{"to.Revision > from.Revision && end != from.Cursor:", "to.Revision > from.Revision && false:"}},
		tests: "TestCrossingThatMeetsAnotherStore", packages: []string{replicaPackage},
	},
	{
		// Without it, a replica that started after an operator's epoch holds no earlier history, and perhaps
		// nobody is left who can supply it.
		name: "history is read across a jump of revisions", file: "pkg/replica/history_fill.go",
		cuts:  []cut{{"p.filled = base == 0 || base > after ||", "p.filled = base >= 0 ||"}},
		tests: "TestB30_|" + model, packages: []string{replicaPackage},
	},
	{
		// Without it, a change of a fork from before a wipe counts as a trimmed part of the log.
		name: "nothing precedes a log that began empty", file: "pkg/replica/orphans.go",
		cuts:  []cut{{"	if e.OnNothing() {\n", "	if e.OnNothing() && c.first == 0 {\n"}},
		tests: "TestB08_ForkOfAReplicaThatWasAway", packages: []string{replicaPackage},
	},
	{
		// Without it, what a failover of Redis takes away is missing from the usage counts.
		name: "batches of usage are held until they are confirmed", file: "pkg/usage/outbox.go",
		cuts:  []cut{{"now.Sub(l.held[0].acknowledged) >= ConfirmAfter", "now.Sub(l.held[0].acknowledged) >= 0"}},
		tests: "TestB21_EachCountOnce|TestB21_QuestionFindsWhat", packages: []string{"./pkg/usage"},
		args: []string{"-rapid.nofailfile"},
	},
	{
		// Without it, a decision that is counted while the counts are taken is lost.
		name: "late usage is counted again", file: "pkg/usage/usage.go",
		cuts:  []cut{{`c != nil && c.add() {`, `c != nil && (c.add() || true) {`}},
		tests: "TestB21_LateAdditions", packages: []string{"./pkg/usage"},
	},
	{
		name: "documents that verify are never left out", file: "pkg/replica/prove.go",
		cuts: []cut{{
			"		if d.damage == nil {\n			c.good",
			"		if d.damage == nil && d.entry.Revision <= head.Revision {\n			c.good",
		}},
		tests: "TestB20_StrayFieldsHideNothing", packages: []string{replicaPackage},
	},
	{
		// Without it, an app beyond a limit could never be changed again, not even to revoke a token.
		name: "a document opens before it is sealed", file: "pkg/record/document.go",
		cuts:  []cut{{"OpenDocument(d.AppID, raw); err != nil {", "OpenDocument(d.AppID, raw); err != nil && raw == nil {"}},
		tests: "TestB08_WhatDoesNotOpenIsNotSealed", packages: []string{"./pkg/record"},
	},
	{
		name: "remembered digests stay sticky", file: "pkg/replica/sticky.go",
		cuts: []cut{{
			"for t := range forgotten.Tokens() {",
			"for t := range (policy.Memory{}).Union(policy.Memory{}).Tokens() {",
		}},
		tests: "TestB08_RememberedDigestStaysInForce", packages: []string{replicaPackage},
	},
	{
		name: "bound on catch-up reads", file: "pkg/replica/read_requests.go",
		cuts:  []cut{{"r.fruitless = min(r.fruitless+1, maxFruitlessReads)", "r.fruitless = 0"}},
		tests: "TestB25_MadeUpRevisions|TestReachReadsOnceIn10ms", packages: []string{replicaPackage},
	},
}
