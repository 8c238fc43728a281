package main

import "slices"

const (
	replicaPackage = "./pkg/replica/"
	fleetPackage   = "./services/authority/internal/fleet/"
	storePackage   = "./services/store/"
	model          = "TestAnyHistoryOfFaultsConverges"
)

// guards are all guards, in the order of the files.
var guards = slices.Concat(replicaGuards, authorityGuards, servingGuards)
