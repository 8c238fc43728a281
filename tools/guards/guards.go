package main

import "slices"

const (
	replicaPackage = "./pkg/replica/"
	fleetPackage   = "./services/authority/internal/fleet/"
	storePackage   = "./services/store/"
	model          = "TestAnyHistoryOfFaultsConverges"
)

// guards are the lines of defence that the promises rest on.
var guards = slices.Concat(replicaGuards, authorityGuards, servingGuards)
