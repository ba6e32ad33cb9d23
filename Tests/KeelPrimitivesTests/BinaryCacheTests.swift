import Foundation
import KeelCL
import KeelCore
import Testing

@testable import KeelPrimitives

@Suite struct BinaryCacheTests {
  private func withFolder(_ body: (URL) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-cache-\(UUID())/programs")
    defer { try? FileManager.default.removeItem(at: folder.deletingLastPathComponent()) }
    try body(folder)
  }

  private func entries(_ folder: URL) -> [URL] {
    ((try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? [])
      .sorted { $0.path < $1.path }
  }

  @Test func folderIsWhatTheEnvironmentSays() {
    #expect(BinaryCache(environment: ["KEEL_CACHE_DIR": "/a", "HOME": "/h"]).folder?.path == "/a")
    #expect(BinaryCache(environment: ["XDG_CACHE_HOME": "/x", "HOME": "/h"]).folder?.path == "/x/keel/programs")
    #expect(BinaryCache(environment: ["HOME": "/h"]).folder?.path == "/h/.cache/keel/programs")
    #expect(
      BinaryCache(environment: ["XDG_CACHE_HOME": "x", "HOME": "/h"]).folder?.path == "/h/.cache/keel/programs")
    #expect(BinaryCache(environment: ["KEEL_CACHE_DIR": "", "HOME": "/h"]).folder == nil)
    #expect(BinaryCache(environment: [:]).folder == nil)
  }

  @Test func entryComesBackAndDamageIsNoEntry() throws {
    try withFolder { folder in
      let cache = BinaryCache(environment: ["KEEL_CACHE_DIR": folder.path])
      let binary = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
      #expect(cache.read("k") == nil)
      cache.write("k", binary)
      #expect(cache.read("k") == binary)
      #expect(cache.read("other") == nil)
      let file = try #require(entries(folder).first)
      let whole = try Data(contentsOf: file)

      for length in [0, 1, 20, 45, whole.count - 1] {
        try whole.prefix(length).write(to: file)
        #expect(cache.read("k") == nil, "cut off at \(length)")
      }
      for position in [0, 15, 40, whole.count - 1] {
        var damaged = whole
        damaged[position] ^= 1
        try damaged.write(to: file)
        #expect(cache.read("k") == nil, "changed at \(position)")
      }
      try (whole + [0]).write(to: file)
      #expect(cache.read("k") == nil, "longer than it was")
      cache.write("k", binary)
      #expect(cache.read("k") == binary)
      #expect(entries(folder).count == 1, "nothing but the entry is left in the folder")
    }
  }

  @Test func keyChangesWithWhateverChangesTheBinary() throws {
    let devices = try Device.all()
    let device = try #require(devices.first)
    let key = BinaryCache.key(text: "ab", options: "c", device: device)
    #expect(key.count == 64)
    #expect(BinaryCache.key(text: "ab", options: "c", device: device) == key)
    #expect(BinaryCache.key(text: "ab ", options: "c", device: device) != key)
    #expect(BinaryCache.key(text: "ab", options: "d", device: device) != key)
    #expect(BinaryCache.key(text: "b", options: "ca", device: device) != key)
    for name in BinaryCache.compilerVariables {
      #expect(
        BinaryCache.key(text: "ab", options: "c", device: device, environment: [name: "x"])
          != BinaryCache.key(text: "ab", options: "c", device: device, environment: [:]), "\(name)")
    }
    if devices.count > 1 {
      #expect(BinaryCache.key(text: "ab", options: "c", device: devices[1]) != key)
    } else {
      print("skipped keys of two devices: there is only \(device.name)")
    }
  }

  @Test func programsComeFromTheDiskTheSecondTime() throws {
    try withFolder { folder in
      let spec = ProgramSpec("record.cl", .float32)
      func build() throws -> (compiled: Int, loaded: Int) {
        let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": folder.path])
        _ = try context.programs.kernel("record", of: spec)
        return (context.programs.compiledCount, context.programs.loadedCount)
      }
      #expect(try build() == (1, 0))
      #expect(entries(folder).count == 1)
      #expect(try build() == (0, 1))

      // A damaged entry is compiled again and replaced.
      let file = try #require(entries(folder).first)
      let sound = try Data(contentsOf: file)
      try Data("not a program".utf8).write(to: file)
      #expect(try build() == (1, 0))
      #expect(try build() == (0, 1))

      // So is one whose digest is right, but which the driver rejects.
      let key = file.deletingPathExtension().lastPathComponent
      BinaryCache(environment: ["KEEL_CACHE_DIR": folder.path]).write(key, Array("not a program".utf8))
      #expect(try build() == (1, 0))
      #expect(try Data(contentsOf: file).count > sound.count / 2)
      #expect(try build() == (0, 1))
    }
  }

  /// A binary that the driver takes, but that has other kernels.
  @Test func anEntryWithoutTheKernelIsReplaced() throws {
    try withFolder { folder in
      let environment = ["KEEL_CACHE_DIR": folder.path]
      let cache = BinaryCache(environment: environment)
      func build(_ name: String, _ file: String) throws -> [Int] {
        let context = try ComputeContext(Device.best(), environment: environment)
        _ = try context.programs.kernel(name, of: ProgramSpec(file, .float32))
        return [context.programs.compiledCount, context.programs.loadedCount]
      }
      #expect(try build("record", "record.cl") == [1, 0])
      let key = try #require(entries(folder).first).deletingPathExtension().lastPathComponent
      #expect(try build("sgd_each", "sgd.cl") == [1, 0])
      let other = try #require(entries(folder).map { $0.deletingPathExtension().lastPathComponent }.first { $0 != key })
      cache.write(key, try #require(cache.read(other)))
      #expect(try build("record", "record.cl") == [1, 1], "loaded, of no use, compiled")
      #expect(try build("record", "record.cl") == [0, 1], "the entry was replaced")

      // A kernel that no source has is an error, not a compilation at each request.
      let context = try ComputeContext(Device.best(), environment: environment)
      for _ in 0..<3 {
        #expect(throws: CLError.self) { try context.programs.kernel("none", of: ProgramSpec("record.cl", .float32)) }
      }
      #expect(context.programs.compiledCount == 1)
    }
  }

  @Test func whatWasNotUsedForLongestGoesFirst() throws {
    try withFolder { folder in
      let environment = ["KEEL_CACHE_DIR": folder.path]
      // An entry of 1,000 bytes takes some more; three fit. The first one that is written makes room.
      var cache: BinaryCache { BinaryCache(environment: environment, limitBytes: 3500) }
      let binary = [UInt8](repeating: 7, count: 1000)
      let start = Date().addingTimeInterval(-1000)
      /// The name of an entry: 64 hexadecimal digits.
      func key(_ digit: String) -> String { String(repeating: digit, count: 64) }
      func age(_ key: String, _ seconds: Double) throws {
        let file = try #require(cache.file(key))
        try FileManager.default.setAttributes(
          [.modificationDate: start.addingTimeInterval(seconds)], ofItemAtPath: file.path)
      }
      for (index, key) in ["a", "b", "c"].map(key).enumerated() {
        cache.write(key, binary)
        try age(key, Double(index))
      }
      #expect(entries(folder).count == 3)
      #expect(cache.read(key("a")) == binary)
      cache.write(key("d"), binary)
      #expect(cache.read(key("b")) == nil, "the one that was used least recently is gone")
      for key in ["a", "c", "d"].map(key) { #expect(cache.read(key) == binary, "\(key)") }

      // What a process left that did not come to the end counts too; what is not the cache's own stays.
      let left = folder.appendingPathComponent("\(key("e")).\(UUID().uuidString).tmp")
      try Data(count: 3000).write(to: left)
      try FileManager.default.setAttributes([.modificationDate: start], ofItemAtPath: left.path)
      let foreign = ["notes.txt", "notes.tmp", "other.clbin"].map { folder.appendingPathComponent($0) }
      for file in foreign {
        try Data(count: 9000).write(to: file)
        try FileManager.default.setAttributes([.modificationDate: start], ofItemAtPath: file.path)
      }
      cache.write(key("d"), binary)
      #expect(!FileManager.default.fileExists(atPath: left.path))
      for file in foreign { #expect(FileManager.default.fileExists(atPath: file.path)) }
      for key in ["a", "c", "d"].map(key) { #expect(cache.read(key) == binary, "\(key)") }

      // One that is larger than all may be together is not kept.
      cache.write(key("f"), [UInt8](repeating: 1, count: 4000))
      #expect(cache.read(key("f")) == nil)
    }
  }

  /// Whatever the keys are, in one process and in many.
  @Test func boundHolds() throws {
    try withFolder { folder in
      let environment = ["KEEL_CACHE_DIR": folder.path]
      func key(_ number: Int) -> String { String(repeating: "b", count: 60) + String(1000 + number) }
      func write(_ numbers: Range<Int>, _ cache: BinaryCache) {
        for number in numbers { cache.write(key(number), [UInt8](repeating: 7, count: 1000)) }
      }
      write(0..<50, BinaryCache(environment: environment, limitBytes: 3500))
      #expect(entries(folder).count <= 3 + 15)
      for process in 0..<5 {
        write(100 + process..<101 + process, BinaryCache(environment: environment, limitBytes: 3500))
        #expect(entries(folder).count <= 3)
      }
    }
  }

  @Test func cacheThatIsOffOrCannotBeWrittenIsNoError() throws {
    try withFolder { folder in
      // A file stands where the folder would be.
      try FileManager.default.createDirectory(
        at: folder.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data().write(to: folder)
      for directory in ["", folder.path] {
        let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": directory])
        _ = try context.programs.kernel("record", of: ProgramSpec("record.cl", .float32))
        #expect(context.programs.compiledCount == 1)
      }
    }
  }
}
