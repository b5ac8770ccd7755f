package clients_test

import (
	"errors"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

type flock struct {
	gorm.Model
	Name  string `gorm:"size:40;uniqueIndex;not null"`
	Birds []bird
}

type bird struct {
	ID      uint64
	FlockID uint
	Name    string          `gorm:"index:idx_bird_name_age,priority:1;default:nobody"`
	Age     int             `gorm:"index:idx_bird_name_age,priority:2;check:age >= 0"`
	Weight  float64         `gorm:"type:numeric(6,2)"`
	Tagged  bool            `gorm:"default:false"`
	Seen    *time.Time      `gorm:"type:timestamptz"`
	Ring    []byte          //
	Notes   map[string]bool `gorm:"serializer:json;type:jsonb"`
	Places  []place         `gorm:"many2many:bird_places"`
}

type place struct {
	ID   string `gorm:"primaryKey;size:8"`
	Name string
}

func openGorm(t *testing.T) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(server), &gorm.Config{TranslateError: true, Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	drop := func() error { return db.Exec("DROP TABLE IF EXISTS bird_places, birds, places, flocks").Error }
	if err := drop(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := db.AutoMigrate(&flock{}, &bird{}, &place{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = drop() })
	return db
}

func TestGormKeepsRowsAndAssociations(t *testing.T) {
	db := openGorm(t)
	seen := time.Date(2026, 3, 1, 6, 30, 0, 123456000, time.UTC)
	akka := flock{Name: "Akka's", Birds: []bird{
		{Name: "Yksi", Age: 3, Weight: 3.95, Seen: &seen, Ring: []byte{0, 255}, Notes: map[string]bool{"leads": true}},
		{Name: "Kaksi", Age: 4, Places: []place{{"lapland", "Lapland"}, {"skane", "Skåne"}}},
	}}
	if err := db.Create(&akka).Error; err != nil {
		t.Fatal(err)
	}
	var found flock
	if err := db.Preload("Birds", func(tx *gorm.DB) *gorm.DB { return tx.Order("age DESC") }).Preload("Birds.Places").First(&found, akka.ID).Error; err != nil {
		t.Fatal(err)
	}
	if len(found.Birds) != 2 || len(found.Birds[0].Places) != 2 {
		t.Fatalf("%+v", found)
	}
	if b := found.Birds[1]; b.Weight != 3.95 || b.Tagged || !b.Seen.Equal(seen) || len(b.Ring) != 2 || !b.Notes["leads"] {
		t.Errorf("%+v", b)
	}

	if err := db.Model(&bird{}).Where("name = ?", "Yksi").Updates(map[string]any{"age": gorm.Expr("age + ?", 10), "tagged": true}).Error; err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := db.Model(&bird{}).Where("age > ? AND tagged", 12).Or("name LIKE ?", "K%").Order("name").Pluck("name", &names).Error; err != nil || len(names) != 2 {
		t.Errorf("%v %v", names, err)
	}
	var joined []struct {
		Flock  string
		Count  int64
		Oldest int
	}
	if err := db.Model(&bird{}).Select("flocks.name AS flock, count(*) AS count, max(age) AS oldest").Joins("JOIN flocks ON flocks.id = birds.flock_id").
		Group("flocks.name").Having("count(*) > ?", 1).Scan(&joined).Error; err != nil || len(joined) != 1 || joined[0].Oldest != 13 {
		t.Errorf("%v %v", joined, err)
	}

	upsert := place{ID: "skane", Name: "Scania"}
	if err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(&upsert).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.First(&upsert, "id = ?", "skane").Error; err != nil || upsert.Name != "Scania" {
		t.Errorf("%+v %v", upsert, err)
	}
	many := make([]bird, 300)
	for i := range many {
		many[i] = bird{FlockID: akka.ID, Age: i}
	}
	if err := db.CreateInBatches(many, 100).Error; err != nil || many[299].ID == 0 || many[299].Name != "nobody" {
		t.Errorf("%+v %v", many[299], err)
	}
	if err := db.Delete(&found).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.First(&flock{}, akka.ID).Error; !errors.Is(err, gorm.ErrRecordNotFound) {
		t.Errorf("a row that was soft-deleted: %v", err)
	}
	var left int64
	if err := db.Unscoped().Model(&flock{}).Count(&left).Error; err != nil || left != 1 {
		t.Errorf("%d %v", left, err)
	}
}

func TestGormTransactions(t *testing.T) {
	db := openGorm(t)
	wanted := errors.New("no")
	err := db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&flock{Name: "one"}).Error; err != nil {
			return err
		}
		inner := tx.Transaction(func(tx *gorm.DB) error { // a savepoint
			if err := tx.Create(&flock{Name: "two"}).Error; err != nil {
				return err
			}
			return wanted
		})
		if !errors.Is(inner, wanted) {
			return inner
		}
		return tx.Clauses(clause.Locking{Strength: "UPDATE"}).First(&flock{}, "name = ?", "one").Error
	})
	var names []string
	if err := errors.Join(err, db.Model(&flock{}).Pluck("name", &names).Error); err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("%v %v", names, err)
	}
}

func TestGormTranslatesErrors(t *testing.T) {
	db := openGorm(t)
	if err := db.Create(&flock{Name: "same"}).Error; err != nil {
		t.Fatal(err)
	}
	if err := db.Create(&flock{Name: "same"}).Error; !errors.Is(err, gorm.ErrDuplicatedKey) {
		t.Errorf("a duplicate: %v", err)
	}
	if err := db.Create(&bird{FlockID: 999}).Error; !errors.Is(err, gorm.ErrForeignKeyViolated) {
		t.Errorf("a reference to nothing: %v", err)
	}
	if err := db.Create(&bird{FlockID: 1, Age: -1}).Error; !errors.Is(err, gorm.ErrCheckConstraintViolated) {
		t.Errorf("a negative age: %v", err)
	}
}

func TestGormMigratesTables(t *testing.T) {
	db := openGorm(t)
	type bird struct {
		ID    uint64
		Name  string `gorm:"type:varchar(20);not null;default:''"`
		Color string `gorm:"size:10;index"`
	}
	m := db.Migrator()
	if err := db.AutoMigrate(&bird{}); err != nil {
		t.Fatal(err)
	}
	if !m.HasColumn(&bird{}, "color") || !m.HasIndex(&bird{}, "idx_birds_color") || !m.HasTable("birds") || m.HasTable("swans") {
		t.Error("the migrator does not see what it made")
	}
	if err := errors.Join(m.RenameColumn(&bird{}, "color", "colour"), m.DropColumn(&bird{}, "ring"), m.DropIndex(&bird{}, "idx_birds_color"),
		m.RenameTable("birds", "geese"), m.RenameTable("geese", "birds")); err != nil {
		t.Error(err)
	}
	types, err := m.ColumnTypes(&bird{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range types {
		if c.Name() == "name" {
			if n, ok := c.Length(); c.DatabaseTypeName() != "varchar" || !ok || n != 20 {
				t.Errorf("name is %s(%d)", c.DatabaseTypeName(), n)
			}
		}
	}
	tables, err := m.GetTables()
	if err != nil || len(tables) < 4 {
		t.Errorf("%v %v", tables, err)
	}
}
