import Foundation
import Testing

@testable import KeelCL

/// Every OpenCL device of this machine, for tests that run on each of them.
enum Machine {
  static let devices: [Device] = (try? Device.all()) ?? []
  static let context: Result<Context, any Error> = Result { try Context(device: Device.select(nil)) }
}

@Suite struct DeviceTests {
  @Test func thereIsADeviceToTestOn() throws {
    #expect(try !Device.all().isEmpty, "the tests need an OpenCL device, e.g. pocl")
    #expect(Machine.devices == (try Device.all()), "handles are equal when asked for again")
  }

  @Test(arguments: Machine.devices)
  func limitsAreSane(device: Device) {
    #expect(!device.name.isEmpty && !device.platform.name.isEmpty && !device.driverVersion.isEmpty)
    #expect(device.clVersion >= Device.Version(1, 2))
    #expect(device.computeUnits >= 1)
    #expect(device.maxWorkGroupSize >= 1 && device.maxWorkItemSizes.count >= 3)
    #expect(device.maxAllocationBytes > 1 << 20 && device.maxAllocationBytes <= device.globalMemoryBytes)
    #expect(device.localMemoryBytes >= 1 << 14)
    #expect(device.baseAddressAlignmentBytes >= 1)
    #expect(device.hasFP64 == device.extensions.contains("cl_khr_fp64"))
  }

  @Test(arguments: Machine.devices)
  func selectByIndicesAndByName(device: Device) throws {
    #expect(try Device.select(device.path) == device)
    #expect(try Device.select("  \(device.name.uppercased())  ").name == device.name)
  }

  /// `best()` is `select(nil)`; the environment is handed in, as the process's own cannot be changed under other tests.
  @Test func theEnvironmentNamesTheDevice() throws {
    for device in Machine.devices {
      #expect(try Device.select(nil, environment: ["KEEL_DEVICE": " \(device.path) "]) == device)
      #expect(try Device.select(device.path, environment: ["KEEL_DEVICE": "no such device"]) == device)
    }
    let error = #expect(throws: DeviceSelectionError.self) {
      try Device.select(nil, environment: ["KEEL_DEVICE": "no such device"])
    }
    #expect(error?.description.hasPrefix("[device] \"no such device\" (from KEEL_DEVICE) is in no device's") == true)
    #expect(try Device.select(" ", environment: ["KEEL_DEVICE": ""]) == Device.select(nil, environment: [:]))
    #expect(try Device.best() == Device.select(nil))
  }

  @Test func anUnknownDeviceListsTheDevices() throws {
    let error = #expect(throws: DeviceSelectionError.self) { try Device.select("no such device") }
    let text = try #require(error).description
    #expect(text.hasPrefix("[device] \"no such device\" is in no device's or platform's name; there is:\n"))
    for device in Machine.devices { #expect(text.contains("\(device.path)  \(device.name)")) }
  }

  @Test func theListingHasARowForEveryFact() throws {
    let listing = try DeviceListing.current()
    #expect(listing.devices.count == Machine.devices.count)
    let table = listing.table
    for device in Machine.devices {
      for fact in [device.name, device.platform.name, device.version, device.driverVersion] {
        #expect(table.contains(fact))
      }
    }
    for label in ["compute units", "memory", "local memory", "fp64 / fp16", "sub-groups", "alignment"] {
      #expect(table.contains(label))
    }
    let copy = try JSONDecoder().decode(DeviceListing.self, from: JSONEncoder().encode(listing))
    #expect(copy == listing)
  }

  @Test func aFailedPlatformIsInTheTable() {
    let listing = DeviceListing(devices: [], failures: ["Broken: clGetDeviceIDs Broken: CL_OUT_OF_HOST_MEMORY (-6)"])
    #expect(listing.table == "no OpenCL device\n\nfailed  Broken: clGetDeviceIDs Broken: CL_OUT_OF_HOST_MEMORY (-6)")
  }

  @Test(arguments: [
    (0, "0 bytes"), (512, "512 bytes"), (32768, "32 KiB"), (1_610_612_736, "1.5 GiB"), (1 << 50, "1024 TiB"),
  ])
  func sizesToRead(bytes: Int, text: String) {
    #expect(DeviceReport.size(bytes) == text)
  }
}
