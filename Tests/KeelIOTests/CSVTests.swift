import KeelCore
import KeelIO
import Testing

@Suite struct CSVTests {
  private func decode(_ text: String) throws -> HostTensor { try CSV.decode(Array(text.utf8), name: "f") }

  @Test func readsNumbers() throws {
    let expected = try HostTensor([2, 3], [1.0, -2.5, 300, 0, 1e-3, 1_234_567])
    #expect(try decode("1,-2.5,300\n0,1e-3,1234567") == expected)
    #expect(try decode("1,-2.5, 300\r\n0,1e-3,1234567\r\n\n") == expected)
    let folder = try TemporaryFolder()
    let path = try folder.write(try Gzip.compress(Array("1,2\n3,4\n".utf8)), to: "t.csv.gz")
    #expect(try CSV.read(path).doubles == [1, 2, 3, 4])
  }

  @Test func malformed() {
    #expect(message { try decode("") } == "[csv] f: no rows")
    #expect(message { try decode("\n\r\n") } == "[csv] f: no rows")
    #expect(message { try decode("1,2\n3\n") } == "[csv] f: line 2 has 1 fields, expected 2")
    #expect(message { try decode("1,2\n\n3,4") } == "[csv] f: line 2 has 1 fields, expected 2")
    #expect(message { try decode("1,2\n3,x y\n") } == "[csv] f: line 2, field 2: expected a number, got 'x y'")
    #expect(message { try decode("1,,2") } == "[csv] f: line 1, field 2: expected a number, got ''")
    #expect(message { try decode("nan,2") } == "[csv] f: line 1, field 1: expected a number, got 'nan'")
    #expect(message { try decode("1e999") } == "[csv] f: line 1, field 1: expected a number, got '1e999'")
  }
}
