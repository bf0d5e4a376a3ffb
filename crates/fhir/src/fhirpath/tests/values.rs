//! Literals, operators, conversions, texts, numbers, dates and quantities.

use super::{PATIENT, check};

#[test]
fn arithmetic_is_exact() {
    check(
        PATIENT,
        r"
        1 + 2 * 3 => [7]
        (1 + 2) * 3 => [9]
        -1.abs() => [-1]
        (-1).abs() => [1]
        0.1 + 0.2 = 0.3 => [true]
        1 / 2 => [0.5]
        1 / 0 => []
        7 div 2 => [3]
        -7 div 2 => [-3]
        7 mod 0 => []
        5.5 mod 2 => [1.5]
        2147483647 + 1 => []
        -2147483648 => [-2147483648]
        1 + 'a' => error
        1 + {} => []
        (1 | 2) + 1 => error
        'a' + 'b' => ['ab']
        'a' + {} => []
        'a' & {} => ['a']
        1 & 'a' => error
        -'a' => error
        1.5.round() => [2.]
        (-1.5).round() => [-2.]
        2.345.round(2) => [2.35]
        1.round(-1) => error
        1.5.ceiling() => [2]
        (-1.5).floor() => [-2]
        1.9.truncate() => [1]
        16.sqrt() => [4.]
        (-1).sqrt() => []
        2.power(10) => [1024.]
        2.power(-1) => [0.5]
        (-1).power(0.5) => []
        0.power(-1) => []
        9.power(0.5) => [3.]
        1000.log(10) => [3.]
        8.log(2) => [3.]
        0.ln() => []
        99999999999999999999999.0 * 99999999999999999999999.0 => []
        'a'.abs() => error
        ",
    );
}

#[test]
fn equality_and_equivalence() {
    check(
        PATIENT,
        r"
        1 = 1.0 => [true]
        1.10 = 1.1 => [true]
        'a' = 'A' => [false]
        'a b' ~ 'A	B' => [true]
        1 = {} => []
        {} ~ {} => [true]
        1 ~ {} => [false]
        (1 | 2) = (2 | 1) => [false]
        (1 | 2) ~ (2 | 1) => [true]
        (1 | 2) != (1 | 2 | 3) => [true]
        1 = '1' => [false]
        1.23 ~ 1.2 => [true]
        1.27 ~ 1.2 => [false]
        name = name => [true]
        name.first() = name.last() => [false]
        name ~ (name.last() | name.first()) => [true]
        gender = 'female' => [true]
        gender != 'female' => [false]
        gender = 1 => [false]
        birthDate = @1980-05-17 => [true]
        birthDate = '1980-05-17' => [false]
        birthDate = @1980-05 => []
        birthDate ~ @1980-05 => [false]
        name[0] = 'Berg' => [false]
        1 < 1.5 => [true]
        'a' < 'b' => [true]
        1 < 'a' => error
        (1 | 2) < 3 => error
        name[0] < name[1] => error
        {} < 3 => []
        true > false => error
        ",
    );
}

#[test]
fn dates_keep_their_precision() {
    check(
        PATIENT,
        r"
        @2020 < @2021 => [true]
        @2020 < @2020-06 => []
        @2020-01-01 = @2020-01-01T00:00 => []
        @2020-01-01T10:00:00Z = @2020-01-01T12:00:00+02:00 => [true]
        @2020-01-01T10:00:00Z < @2020-01-01T12:00:00 => []
        @2020-01-01T10:00:00Z < @2020-01-03T12:00:00 => [true]
        @2020-01-01T23:30:00-02:00 > @2020-01-02 => []
        @2020-01-01T23:30:00-02:00 > @2019-12-30 => [true]
        @2020-01-01T10:00:00.5 > @2020-01-01T10:00:00 => [true]
        @T10:30 < @T10:31 => [true]
        @T10:30 < @T10:30:30 => []
        @T10:30 = @2020 => [false]
        @T10:30 < @2020 => []
        @2020-02-29 + 1 year => [@2021-02-28]
        @2020-01-31 + 1 month => [@2020-02-29]
        @2020-03-31 - 1 month => [@2020-02-29]
        @2020 + 13 months => [@2021]
        @2020 + 11 months => [@2020]
        @2020-01 + 60 days => [@2020-03]
        @2019-12-31 + 1 day => [@2020-01-01]
        @2020-01-01 + 36 hours => [@2020-01-02]
        @2020-03-01 - 1 'd' => [@2020-02-29]
        @2020-01-01T00:00:00Z - 1 second => [@2019-12-31T23:59:59Z]
        @2020-01-01T00:00:00.000Z + 1 millisecond => [@2020-01-01T00:00:00.001Z]
        @2020-01-01 + 1 'a' => error
        @2020-01-01 + 1 'mg' => error
        @2020-01-01 + 1 => error
        @9999-12-31 + 1 day => []
        @T23:30 + 1 hour => [@00:30]
        @T10:00 + 1 day => error
        @2020.lowBoundary(6) => [@2020-01]
        @2020-02.highBoundary(8) => [@2020-02-29]
        @2020.lowBoundary(7) => []
        @2020-01-01T10:30Z.highBoundary(17) => [@2020-01-01T10:30:59.999Z]
        birthDate.highBoundary() => [@1980-05-17]
        @T10.lowBoundary(9) => [@10:00:00.000]
        1.5.lowBoundary() => [1.45000000]
        1.5.highBoundary(2) => [1.55]
        1.5.highBoundary(99) => []
        5 'mg'.lowBoundary(1) => [4.5 'mg']
        'a'.lowBoundary() => error
        @2020-05.precision() => [6]
        @T10:30:00.precision() => [6]
        1.50.precision() => [2]
        @2020-05-06.yearOf() => [2020]
        @2020.monthOf() => []
        @2020-01-01T10:00:00-02:30.timezoneOffsetOf() => [-2.5]
        @2020-01-01T10:00:00-02:30.dateOf() => [@2020-01-01]
        @2020-01-01T10:00:00.120-02:30.timeOf() => [@10:00:00.120]
        @2020-01-01T10:00:00.120-02:30.millisecondOf() => [120]
        ",
    );
}

#[test]
fn quantities_and_units() {
    check(
        PATIENT,
        r"
        1 'g' = 1000 'mg' => [true]
        1 'g' = 1 'cm' => []
        1 'g' != 1 'cm' => []
        1 'g' ~ 1 'cm' => [false]
        2 'Cel' = 2 'Cel' => [true]
        2 'Cel' = 275.15 'K' => []
        1 'nonsense' = 1 'mg' => []
        1 year = 12 months => [true]
        1 year = 1 'a' => []
        1 year ~ 1 'a' => [true]
        1 week = 7 'd' => [true]
        1 minute = 60 's' => [true]
        1 day > 23 hours => [true]
        1 'm' + 1 'cm' => [1.01 'm']
        1 'm' + 1 'kg' => []
        2 'm' * 3 'm' = 6 'm2' => [true]
        6 'm2' / 2 'm' = 3 'm' => [true]
        6 'm' / 0 'm' => []
        2 'm' * 3 => [6 'm']
        5 = 5 '1' => [true]
        1 'cm'.comparable(1 '[in_i]') => [true]
        1 'cm'.comparable(1 's') => [false]
        1 'cm'.comparable(1) => error
        (-5.5 'mg').abs() => [5.5 'mg']
        '4 days'.toQuantity() => [4 days]
        '4 \'mg\''.toQuantity() => [4 'mg']
        '4 mg'.toQuantity() => []
        52 'cm'.toQuantity('m') => [0.52 'm']
        45.toQuantity('m') => [45 'm']
        24 'm'.toQuantity('kg') => []
        10 'mg' mod 3 'mg' => error
        ",
    );
}

#[test]
fn texts_and_regular_expressions() {
    check(
        PATIENT,
        r#"
        'abc'.length() => [3]
        'a\u00e9\uD83D\uDD25'.length() => [3]
        '\p\3' => ['p3']
        'abc'.substring(1) => ['bc']
        'abc'.substring(1, 1) => ['b']
        'abc'.substring(3) => []
        'abc'.substring(-1) => []
        'abc'.substring(1, -1) => ['']
        'abc'.indexOf('c') => [2]
        'abc'.indexOf('') => [0]
        'abc'.indexOf('x') => [-1]
        'abca'.lastIndexOf('a') => [3]
        'a🔥b'.indexOf('b') => [2]
        'abc'.startsWith('') => [true]
        'abc'.contains('bc') => [true]
        {}.contains('bc') => []
        1.startsWith('1') => error
        name[0].startsWith('1') => error
        name.given.startsWith('A') => error
        gender.startsWith('fem') => [true]
        birthDate.startsWith('1980') => [true]
        'abc'.replace('', 'x') => ['xaxbxcx']
        'abc'.replace('b', {}) => []
        'abc'.matches('b') => [true]
        'abc'.matches('^b$') => [false]
        'abc'.matchesFull('b') => [false]
        'A\nB'.matches('A.B') => [true]
        'ABC'.matches('b', 'i') => [true]
        'ABC'.matches('b', 'z') => error
        'abc'.matches('(?=b)') => error
        'abc'.matches('(') => error
        'a1b2'.replaceMatches('[0-9]', '-') => ['a-b-']
        '11/30/1972'.replaceMatches('\\b(?<month>\\d{1,2})/(?<day>\\d{1,2})/(?<year>\\d{2,4})\\b', '${day}-${month}-${year}') => ['30-11-1972']
        'ab'.replaceMatches('(a)(b)', '$2$1x') => ['bax']
        'abc'.toChars() => ['a', 'b', 'c']
        'a,,b'.split(',') => ['a', '', 'b']
        name.given.join('+') => ['Ada+Bo+Addie']
        {}.join(',') => []
        ' a '.trim() => ['a']
        'test'.encode('base64').decode('base64') => ['test']
        'test'.encode('hex') => ['74657374']
        'test'.encode('other') => []
        '/w=='.decode('base64') => []
        '<a & "b">'.escape('html') => ['&lt;a &amp; &quot;b&quot;&gt;']
        '&lt;&amp;&#65;&x;&'.unescape('html') => ['<&A&x;&']
        'a"b'.escape('json') => ['a\"b']
        'a\\nb'.unescape('json').length() => [3]
        'abc'.upper() => ['ABC']
        "#,
    );
}

#[test]
fn conversions() {
    check(
        PATIENT,
        r"
        '1'.toInteger() => [1]
        '1.0'.toInteger() => []
        '99999999999'.toInteger() => []
        true.toInteger() => [1]
        1.5.toInteger() => []
        '1.50'.toDecimal() => [1.50]
        '.5'.toDecimal() => []
        'yes'.toBoolean() => [true]
        2.toBoolean() => []
        0.0.toBoolean() => [false]
        '2020-02-30'.convertsToDate() => [false]
        '2020-02'.toDate() => [@2020-02]
        @2020-02-01T10:00:00Z.toDate() => [@2020-02-01]
        @2020.toDateTime() => [@2020]
        '10:30'.toTime() => [@10:30]
        '10:30Z'.toTime() => []
        birthDate.toString() => ['1980-05-17']
        name[0].toString() => []
        name[0].convertsToString() => [false]
        name.convertsToString() => error
        {}.convertsToString() => []
        1.50.toString() => ['1.50']
        multipleBirth.toString() => ['2']
        (4 days).toString() => ['4 days']
        ",
    );
}
