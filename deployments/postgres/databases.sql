-- Run once, when the data volume is empty.
CREATE DATABASE ledger;
CREATE DATABASE registry;
CREATE DATABASE prefect;
