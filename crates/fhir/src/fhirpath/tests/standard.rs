//! What the language's specification says, function by function, where the other tests do not go.
//!
//! # Source
//! FHIRPath N1 (<http://hl7.org/fhirpath/N1/>) and FHIR R4, <https://hl7.org/fhir/R4/fhirpath.html>.

use super::{OBSERVATION, PATIENT, check};

#[test]
fn names_literals_and_comments() {
    check(
        PATIENT,
        r"
        name.`given`.count() => [3]
        `Patient`.name.`given`.count() => [3]
        Patient.`name`[0].`family`.toString() => ['Berg']
        name /* all of them */ .given.count() => [3]
        name.given.count() // all => [3]
        name[0].use.toString() + '`' => ['official`']
        '\'\\\`\/' => [''\`/']
        'A' => ['A']
        1234567890987654321.0.convertsToDecimal() => [true]
        -5.abs() => [-5]
        (-5.5 'mg').abs() => [5.5 'mg']
        4 days.convertsToQuantity() => [true]
        10.1 'mg'.convertsToQuantity() => [true]
        Patient.name.given != {} => []
        name.given.empty().not() => [true]
        (0).not() => [false]
        {}.not().empty() => [true]
        @2015-02-04T14:34:28Z.is(DateTime) => [true]
        @2015-02-04T14:34:28.123+10:00.is(DateTime) => [true]
        @T14.is(Time) => [true]
        @2015.is(DateTime) => [false]
        ",
    );
}

#[test]
fn conversions_accept_what_the_tables_list() {
    check(
        PATIENT,
        r"
        '2015'.convertsToDate() => [true]
        '2015-02'.convertsToDate() => [true]
        '2015-02-04T10:00'.convertsToDate() => [false]
        '2015-02-04T14:34:28.123'.convertsToDateTime() => [true]
        '2015-13'.convertsToDateTime() => [false]
        '14:34'.convertsToTime() => [true]
        '14:34:28'.convertsToTime() => [true]
        '25:00'.convertsToTime() => [false]
        @2015-02-04T10:00:00.toDate() => [@2015-02-04]
        @2015-02-04.toDateTime() => [@2015-02-04]
        @2015-02-04.convertsToTime() => [false]
        '+5'.toInteger() => [5]
        '-5'.toInteger() => [-5]
        '5.0'.toInteger() => []
        5.0.toInteger() => []
        true.toInteger() => [1]
        'a'.toDecimal() => []
        '-4.2'.toDecimal() => [-4.2]
        '.5'.toDecimal() => []
        true.toDecimal() => [1.0]
        'yes'.toBoolean() => [true]
        'N'.toBoolean() => [false]
        '0.0'.toBoolean() => [false]
        'maybe'.convertsToBoolean() => [false]
        1.5.convertsToBoolean() => [false]
        '1'.toQuantity() => [1 '1']
        '1 day'.toQuantity() = 1 day => [true]
        '1 \'mo\''.toQuantity() = 1 month => []
        '1 \'wk\''.convertsToQuantity() => [true]
        '1 wk'.convertsToQuantity() => [false]
        '4.5 \'kg\''.toQuantity('g') = 4500 'g' => [true]
        1.0.toString() => ['1.0']
        4.5 'mg'.toString() => ['4.5 \'mg\'']
        1 week.toString() => ['1 week']
        @2020-01.toString() => ['2020-01']
        name.convertsToString() => error
        name[0].convertsToString() => [false]
        (1 | 2).toString() => error
        {}.toInteger() => []
        {}.convertsToInteger() => []
        "
        .replace(r"['4.5 \'mg\'']", "['4.5 'mg'']")
        .as_str(),
    );
}

#[test]
fn texts() {
    check(
        PATIENT,
        r"
        '12345'.substring(2,5) => ['345']
        '12345'.substring(25) => []
        '12345'.substring({}) => []
        '12345'.startsWith('2') => [false]
        ''.startsWith('') => [true]
        '12345'.startsWith({}) => []
        {}.endsWith('a') => []
        'FHIR'.matches('fhir') => [false]
        'N8000123123'.matches('^N[0-9]{8}$') => [false]
        'N8000123123'.matches('N[0-9]{8}') => [true]
        'N8000123123'.matchesFull('N[0-9]{8}') => [false]
        'N8000123123'.matchesFull('N[0-9]{10}') => [true]
        '123456'.replaceMatches('234', 'X') => ['1X56']
        '11/30/1972'.replaceMatches('\\b(?<month>\\d{1,2})/(?<day>\\d{1,2})/(?<year>\\d{2,4})\\b', '${day}-${month}-${year}') => ['30-11-1972']
        'abc'.replaceMatches({}, 'x') => []
        '[stop]ONE[stop][stop]TWO[stop][stop][stop]THREE[stop][stop]'.split('[stop]').count() => [9]
        'A,,C'.split(',').count() => [3]
        ('a' | 'b').join() => ['ab']
        {}.join(',') => []
        't'.upper() & 'T'.lower() => ['Tt']
        'a/b'.encode('html') => []
        '&amp;&lt;'.unescape('html') => ['&<']
        'LogicalModel-Person'.indexOf('-') => [12]
        'abc'.indexOf({}) => []
        'abc'.contains('') => [true]
        'abc'.contains('d') => [false]
        ' a '.trim() => ['a']
        'abc'.length() => [3]
        {}.length() => []
        'abc'.toChars().count() => [3]
        ",
    );
}

#[test]
fn numbers() {
    check(
        PATIENT,
        r"
        101.truncate() => [101]
        1.00000001.truncate() => [1]
        (-1.56).truncate() => [-1]
        (-1.1).ceiling() => [-1]
        1.1.ceiling() => [2]
        2.1.floor() => [2]
        (-2.1).floor() => [-3]
        3.14159.round(3) => [3.142]
        1.round() => [1.]
        81.sqrt() => [9.]
        2.5.power(2) => [6.25]
        1.ln() => [0.]
        0.exp() => [1.]
        16.log(2) => [4.]
        100.0.log(10.0) => [2.]
        1.8 - 1.2 => [0.6]
        1.2 * 1.8 => [2.16]
        4 / 2 => [2.]
        1.2 / 1.8 ~ 0.67 => [true]
        5 div 2 => [2]
        5.5 div 0.7 => [7]
        2.2 div 1.8 => [1]
        5 div 0 => []
        5 mod 2 => [1]
        2.2 mod 1.8 => [0.4]
        1 + 'a' => error
        'a' - 'b' => error
        1 - {} => []
        (1 | 1 is Integer).count() => [2]
        true and '0215' in ('0215' | '0216') => [true]
        1 | 2 = 2 | 1 => error
        -1 + 2 => [1]
        1 + 2 & 'a' => error
        "
        .replace("1 | 2 = 2 | 1 => error", "(1 | 2) = (2 | 1) => [false]")
        .as_str(),
    );
}

#[test]
fn dates_and_times() {
    check(
        PATIENT,
        r"
        @1973-12-25 + 7 days => [@1974-01-01]
        @1973-12-25 + 7.7 days => [@1974-01-01]
        @1973-12-25T00:00:00.000+10:00 + 7 days => [@1974-01-01T00:00:00.000+10:00]
        @1973-12-25T00:00:00.000+10:00 + 1 second => [@1973-12-25T00:00:01.000+10:00]
        @1973-12-25T00:00:00.000+10:00 + 10 milliseconds => [@1973-12-25T00:00:00.010+10:00]
        @1973-12-25T00:00:00.000+10:00 + 1 'h' => [@1973-12-25T01:00:00.000+10:00]
        @1974-12-25 + 7 => error
        @1974-12-25 - 1 month => [@1974-11-25]
        @1974-12-25 - 1 'mo' => error
        @T01:00:00 + 2 hours => [@03:00:00]
        @T23:00:00 + 2 hours => [@01:00:00]
        @T00:30:00 - 1 hour => [@23:30:00]
        @2012-04-15T15:00:31 = @2012-04-15T15:00:31.0 => [true]
        @2012-04-15T15:00:31 = @2012-04-15T15:00:31.1 => [false]
        @2012-04-15T15:00:00Z = @2012-04-15T10:00:00 => []
        @2012-04-15 = @2012-04-15 => [true]
        @2012-04-15 != @2012-04-15T10:00:00 => []
        @2012-04-15 ~ @2012-04-15T10:00:00 => [false]
        @2012-04-15T15:00:00+02:00 = @2012-04-15T16:00:00+03:00 => [true]
        @2018-03 < @2018-03-01 => []
        @2018-03-01T10:30 < @2018-03-01T10:30:00 => []
        @2018-03-01T10:30:00 < @2018-03-01T10:30:00.1 => [true]
        @T10:30:00 < @T10:30:00.000 => [false]
        @2016-02 > @2015-12-31 => [true]
        today() < @2030 => [true]
        now().toDate() = today() => [true]
        ",
    );
}

#[test]
fn collections() {
    check(
        PATIENT,
        r"
        name.select(given | family).count() => [4]
        name.given | name.given => [string 'Ada', string 'Bo', string 'Addie']
        name.given.combine(name.given).count() => [6]
        name.given.combine(name.given).isDistinct() => [false]
        (1 | 2 | 3).intersect(2 | 4) => [2]
        (1 | 2 | 3).exclude(2) => [1, 3]
        (1 | 2 | 3)[0] => [1]
        (1 | 2 | 3)[3] => []
        name[1].use.toString() => ['nickname']
        name.take(1).given.count() => [2]
        name.skip(1).given.count() => [1]
        (1 | 2 | 3).tail().first() => [2]
        (1 | 2).allTrue() => error
        (true | false).anyFalse() => [true]
        (true).allFalse() => [false]
        (1|2|3|4|5|6|7|8|9).aggregate($this+$total, 0) => [45]
        (3 | 5).aggregate(iif($total.empty(), $this, iif($this < $total, $this, $total))) => [3]
        name.where($index = 1).use.toString() => ['nickname']
        name.exists(given = 'Addie') => [true]
        name.all($this is HumanName) => [true]
        {}.all(false) => [true]
        {}.exists() => [false]
        {}.count() => [0]
        {} | {} => []
        iif(name.exists(), 'a', 'b') => ['a']
        iif({}, 'a', 'b') => ['b']
        iif(true, 'a', (1 | 2).toString()) => ['a']
        'x'.iif($this = 'x', 'a', 'b') => ['a']
        name.trace('names').count() => [2]
        name.trace('names', given).count() => [2]
        descendants().where($this is HumanName).count() => [2]
        children().count() > 5 => [true]
        (@2020 | @2020-01 | @2019 | @2020-02 | @2018-05 | @2018).sort().count() => [6]
        (2.5 | 1 | 3 | 2).sort($this desc) => [3, 2.5, 2, 1]
        name.sort(given.count() desc, use).use.first().toString() => ['official']
        1 in {} => [false]
        {} contains 1 => [false]
        (1 | 2) contains 2 => [true]
        "
        .replace(
            "[string 'Ada', string 'Bo', string 'Addie']",
            r#"[string "Ada", string "Bo", string "Addie"]"#,
        )
        .as_str(),
    );
}

#[test]
fn elements_of_fhir() {
    check(
        PATIENT,
        r"
        birthDate.extension('http://example.org/time').value.exists() => [true]
        extension('http://example.org/a').value.toString() => ['x']
        extension('http://example.org/b').empty() => [true]
        birthDate.hasValue() => [true]
        deceased.hasValue() => [false]
        deceased.exists() => [true]
        deceased.extension.exists() => [true]
        name.given.hasValue() => [false]
        birthDate.getValue() = @1980-05-17 => [true]
        multipleBirth is integer => [true]
        multipleBirth.ofType(integer) => [integer 2]
        multipleBirth.as(boolean) => []
        multipleBirth + 1 => [3]
        active is boolean => [true]
        active is System.Boolean => [false]
        active = true => [true]
        active.type().name => ['boolean']
        Patient.type().name => ['Patient']
        gender.ofType(string) => []
        birthDate is date => [true]
        birthDate.is(FHIR.date) => [true]
        is(Patient) => [true]
        is(FHIR.Patient) => [true]
        is(DomainResource) => [true]
        (active or gender = 'x').type().name => ['Boolean']
        %ucum => ['http://unitsofmeasure.org']
        %loinc => ['http://loinc.org']
        %`vs-administrative-gender` => ['http://hl7.org/fhir/ValueSet/administrative-gender']
        %`ext-patient-birthTime` => ['http://hl7.org/fhir/StructureDefinition/patient-birthTime']
        managingOrganization.resolve().is(Organization) => [true]
        contained.name.toString() => ['Clinic']
        ",
    );
    check(
        OBSERVATION,
        r"
        component[0].value.is(Quantity) => [true]
        (component[0].value as Quantity).unit.toString() => ['mmHg']
        component[0].value.as(Quantity).value => [decimal 120.5]
        component[0].value > 119 'mm[Hg]' => [true]
        component[0].value ~ 120.5 'mm[Hg]' => [true]
        component[0].value.unit = 'mmHg' => [true]
        component.value.ofType(Quantity).value.count() => [2]
        effective.as(Period).start.exists() => [true]
        effective is dateTime => [false]
        code.coding.code contains '85354-9' => [true]
        component.select(code.coding.first().code) => [code '8480-6', code '8462-4']
        "
        .replace(
            "[code '8480-6', code '8462-4']",
            r#"[code "8480-6", code "8462-4"]"#,
        )
        .as_str(),
    );
}
