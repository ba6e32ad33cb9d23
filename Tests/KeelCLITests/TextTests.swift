import Foundation
import Testing

@testable import KeelCLI

@Suite struct TextTests {
  @Test func tableAlignsColumns() {
    let table = TextTable(
      [.left, .right], rows: [["image", "class"], ["a", "7"], ["longer name"], ["b", "12", "extra"]])
    #expect(table.lines == ["image        class", "a                7", "longer name", "b               12"])
    #expect(TextTable([.left]).text == "")
  }

  @Test func numbers() {
    #expect(Text.loss(0.12345) == "0.1235")
    #expect(Text.loss(0) == "0.0000")
    #expect(Text.loss(0.00001234) == "1.234e-05")
    #expect(Text.loss(nil) == "–")
    #expect(Text.loss(.nan) == "nan")
    #expect(Text.accuracy(0.9677) == "0.9677")
    #expect(Text.seconds(0.0123) == "0.012 s")
    #expect(Text.seconds(0.00999) == "9.99 ms" && Text.seconds(0.0099999) == "0.010 s")
    #expect(Text.seconds(0.001) == "1.00 ms" && Text.seconds(0.00099996) == "1.00 ms")
    #expect(Text.seconds(0.000387) == "387 µs" && Text.seconds(0) == "0 µs")
    #expect(Text.seconds(12.345) == "12.35 s")
    #expect(Text.seconds(1234.5) == "1234 s" || Text.seconds(1234.5) == "1235 s")
    #expect(Text.microseconds(110.04) == "110.0")
    #expect(Text.microseconds(.nan) == "–")
    #expect(Text.count(60000) == "60,000")
    #expect(Text.count(-1234) == "-1,234")
    #expect(Text.extents([28, 28]) == "28×28")
  }

  @Test func median() {
    #expect([Double]().median == nil)
    #expect([3.0, 1, 2].median == 2)
    #expect([4.0, 1, 2, 3].median == 2.5)
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity, nil])
  func whatJSONCannotSayIsNull(value: Double?) throws {
    let text = String(decoding: try JSONEncoder().encode([Figure(value)]), as: UTF8.self)
    #expect(text == "[null]")
  }

  @Test func finiteFiguresAreNumbers() throws {
    #expect(String(decoding: try JSONEncoder().encode([Figure(0.25)]), as: UTF8.self) == "[0.25]")
  }
}
