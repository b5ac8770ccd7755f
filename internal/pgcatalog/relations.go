package pgcatalog

import (
	"strings"

	"skein/internal/oid"
)

// The catalog tables. Columns are those of PostgreSQL 15 in its order. OIDs are PostgreSQL's own
// where it fixes them; the views, which it numbers at initdb, have numbers near its own.
//
// relations is filled at init, because the rows of pg_class list relations itself; it does not
// change after.
var relations []relation

var (
	relationsByName = map[string]*relation{}
	relationsByOID  = map[oid.OID]*relation{}
)

func init() {
	relations = append(relations, tableRelations...)
	relations = append(relations, objectRelations()...)
	relations = append(relations, clusterRelations()...)
	relations = append(relations, replicationRelations()...)
	relations = append(relations, failoverRelations()...)
	relations = append(relations, informationRelations()...)
	for i := range relations {
		r := &relations[i]
		if r.oid == 0 {
			r.oid = oid.OID(12400 + i)
		}
		relationsByName[r.name], relationsByOID[r.oid] = r, r
	}
	initProcs()
}

func relationByName(name string) *relation { return relationsByName[name] }

// AboutNode says whether a table's name, in lower case and with its schema's prefix where it needs one, is of a relation of the catalog that tells of
// the node that is asked, or the same everywhere. Others show what clients have made, and are as new as the tables are.
func AboutNode(name string) bool {
	r := relationsByName[name]
	return r != nil && !r.isInformation() && !made[r.name]
}

var made = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(`pg_class pg_attribute pg_attrdef pg_index pg_constraint pg_depend pg_sequence pg_trigger pg_tables pg_views pg_indexes pg_sequences
		pg_stat_all_tables pg_stat_user_tables pg_stat_user_indexes pg_statio_user_tables
		pg_database pg_authid pg_roles pg_user pg_shadow pg_group pg_db_role_setting`) {
		names[name] = true
	}
	return names
}()

func relationByOID(o oid.OID) *relation { return relationsByOID[o] }
func (r *relation) isInformation() bool { return strings.HasPrefix(r.name, "information_schema_") }

// shownName is the name without the prefix that stands for its schema.
func (r *relation) shownName() string { return strings.TrimPrefix(r.name, "information_schema_") }

func (r *relation) namespace() oid.OID {
	if r.isInformation() {
		return informationNamespace
	}
	return catalogNamespace
}

// isView: PostgreSQL makes these of others, in 12000 and up.
func (r *relation) isView() bool { return r.oid >= 12000 }

func (r *relation) relkind() byte {
	if r.isView() {
		return 'v'
	}
	return 'r'
}

const (
	catalogNamespace     oid.OID = 11
	toastNamespace       oid.OID = 99
	publicNamespace      oid.OID = 2200
	informationNamespace oid.OID = 13000
	tempNamespace        oid.OID = 13001
	bootstrapRole        oid.OID = 10
	ownerRole            oid.OID = 6171 // pg_database_owner
	defaultTablespace    oid.OID = 1663
	heapMethod           oid.OID = 2
	btreeMethod          oid.OID = 403
)

type namespace struct {
	oid   oid.OID
	name  string
	owner oid.OID
}

var namespaces = []namespace{
	{toastNamespace, "pg_toast", bootstrapRole},
	{catalogNamespace, "pg_catalog", bootstrapRole},
	{publicNamespace, "public", ownerRole},
	{informationNamespace, "information_schema", bootstrapRole},
}

// tableRelations have no rows in Skein: nothing that they describe exists here.
var tableRelations = []relation{
	{"pg_aggregate", 2600, "aggfnoid regproc, aggkind \"char\", aggnumdirectargs int2, aggtransfn regproc, aggfinalfn regproc, aggcombinefn regproc, aggserialfn regproc, aggdeserialfn regproc, aggmtransfn regproc, aggminvtransfn regproc, aggmfinalfn regproc, aggfinalextra bool, aggmfinalextra bool, aggfinalmodify \"char\", aggmfinalmodify \"char\", aggsortop oid, aggtranstype oid, aggtransspace int4, aggmtranstype oid, aggmtransspace int4, agginitval text, aggminitval text", nil},
	{"pg_amop", 2602, "oid oid, amopfamily oid, amoplefttype oid, amoprighttype oid, amopstrategy int2, amoppurpose \"char\", amopopr oid, amopmethod oid, amopsortfamily oid", nil},
	{"pg_amproc", 2603, "oid oid, amprocfamily oid, amproclefttype oid, amprocrighttype oid, amprocnum int2, amproc regproc", nil},
	{"pg_auth_members", 1261, "roleid oid, member oid, grantor oid, admin_option bool", nil},
	{"pg_cast", 2605, "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext \"char\", castmethod \"char\"", nil},
	{"pg_conversion", 2607, "oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, conproc regproc, condefault bool", nil},
	{"pg_default_acl", 826, "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype \"char\", defaclacl _aclitem", nil},
	{"pg_depend", 2608, "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype \"char\"", nil},
	{"pg_description", 2609, "objoid oid, classoid oid, objsubid int4, description text", nil},
	{"pg_enum", 3501, "oid oid, enumtypid oid, enumsortorder float4, enumlabel name", nil},
	{"pg_event_trigger", 3466, "oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled \"char\", evttags _text", nil},
	{"pg_foreign_data_wrapper", 2328, "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl _aclitem, fdwoptions _text", nil},
	{"pg_foreign_server", 1417, "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl _aclitem, srvoptions _text", nil},
	{"pg_foreign_table", 3118, "ftrelid oid, ftserver oid, ftoptions _text", nil},
	{"pg_inherits", 2611, "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool", nil},
	{"pg_init_privs", 3394, "objoid oid, classoid oid, objsubid int4, privtype \"char\", initprivs _aclitem", nil},
	{"pg_largeobject_metadata", 2995, "oid oid, lomowner oid, lomacl _aclitem", nil},
	{"pg_operator", 2617, "oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind \"char\", oprcanmerge bool, oprcanhash bool, oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc, oprjoin regproc", nil},
	{"pg_opfamily", 2753, "oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid", nil},
	{"pg_partitioned_table", 3350, "partrelid oid, partstrat \"char\", partnatts int2, partdefid oid, partattrs int2vector, partclass oidvector, partcollation oidvector, partexprs pg_node_tree", nil},
	{"pg_policy", 3256, "oid oid, polname name, polrelid oid, polcmd \"char\", polpermissive bool, polroles _oid, polqual pg_node_tree, polwithcheck pg_node_tree", nil},
	{"pg_publication", 6104, "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool", nil},
	{"pg_publication_namespace", 6237, "oid oid, pnpubid oid, pnnspid oid", nil},
	{"pg_publication_rel", 6106, "oid oid, prpubid oid, prrelid oid, prqual pg_node_tree, prattrs int2vector", nil},
	{"pg_rewrite", 2618, "oid oid, rulename name, ev_class oid, ev_type \"char\", ev_enabled \"char\", is_instead bool, ev_qual pg_node_tree, ev_action pg_node_tree", nil},
	{"pg_seclabel", 3596, "objoid oid, classoid oid, objsubid int4, provider text, label text", nil},
	{"pg_shdepend", 1214, "dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype \"char\"", nil},
	{"pg_shdescription", 2396, "objoid oid, classoid oid, description text", nil},
	{"pg_shseclabel", 3592, "objoid oid, classoid oid, provider text, label text", nil},
	{"pg_statistic", 2619, "starelid oid, staattnum int2, stainherit bool, stanullfrac float4, stawidth int4, stadistinct float4", nil},
	{"pg_statistic_ext", 3381, "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys int2vector, stxkind _char, stxexprs pg_node_tree", nil},
	{"pg_subscription", 6100, "oid oid, subdbid oid, subskiplsn pg_lsn, subname name, subowner oid, subenabled bool, subbinary bool, substream bool, subtwophasestate \"char\", subdisableonerr bool, subconninfo text, subslotname name, subsynccommit text, subpublications _text", nil},
	{"pg_subscription_rel", 6102, "srsubid oid, srrelid oid, srsubstate \"char\", srsublsn pg_lsn", nil},
	{"pg_transform", 3576, "oid oid, trftype oid, trflang oid, trffromsql regproc, trftosql regproc", nil},
	{"pg_ts_config", 3602, "oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid", nil},
	{"pg_ts_dict", 3600, "oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption text", nil},
	{"pg_ts_parser", 3601, "oid oid, prsname name, prsnamespace oid, prsstart regproc, prstoken regproc, prsend regproc, prsheadline regproc, prslextype regproc", nil},
	{"pg_ts_template", 3764, "oid oid, tmplname name, tmplnamespace oid, tmplinit regproc, tmpllexize regproc", nil},
	{"pg_user_mapping", 1418, "oid oid, umuser oid, umserver oid, umoptions _text", nil},
	{"pg_user_mappings", 12192, "umid oid, srvid oid, srvname name, umuser oid, usename name, umoptions _text", nil},
	{"pg_available_extensions", 12083, "name name, default_version text, installed_version text, comment text", nil},
	{"pg_available_extension_versions", 12087, "name name, version text, installed bool, superuser bool, trusted bool, relocatable bool, schema name, requires _name, comment text", nil},
	{"pg_cursors", 12079, "name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, creation_time timestamptz", nil},
	{"pg_prepared_statements", 12101, "name text, statement text, prepare_time timestamptz, parameter_types _regtype, from_sql bool, generic_plans int8, custom_plans int8", nil},
	{"pg_prepared_xacts", 12097, "transaction xid, gid text, prepared timestamptz, owner name, database name", nil},
	{"pg_statio_all_tables", 12165, "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8, idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8", nil},
	{"pg_locks", 12075, "locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, transactionid xid, classid oid, objid oid, objsubid int2, virtualtransaction text, pid int4, mode text, granted bool, fastpath bool, waitstart timestamptz", nil},
	{"pg_matviews", 12040, "schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool, definition text", nil},
	{"pg_policies", 12020, "schemaname name, tablename name, policyname name, permissive text, roles _name, cmd text, qual text, with_check text", nil},
	{"pg_publication_tables", 12070, "pubname name, schemaname name, tablename name, attnames _name, rowfilter text", nil},
	{"pg_rules", 12025, "schemaname name, tablename name, rulename name, definition text", nil},
	{"pg_seclabels", 12106, "objoid oid, classoid oid, objsubid int4, objtype text, objnamespace oid, objname text, provider text, label text", nil},
	{"pg_stats", 12055, "schemaname name, tablename name, attname name, inherited bool, null_frac float4, avg_width int4, n_distinct float4, most_common_vals text, most_common_freqs _float4, histogram_bounds text, correlation float4", nil},
	{"pg_stat_progress_vacuum", 12313, "pid int4, datid oid, datname name, relid oid, phase text, heap_blks_total int8, heap_blks_scanned int8, heap_blks_vacuumed int8, index_vacuum_count int8, max_dead_tuples int8, num_dead_tuples int8", nil},
	{"pg_stat_ssl", 12251, "pid int4, ssl bool, version text, cipher text, bits int4, client_dn text, client_serial numeric, issuer_dn text", nil},
}
